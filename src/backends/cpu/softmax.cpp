#include "backends/cpu/cross_entropy.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void softmax(const KernelCall& call, const Softmax& op) {
    using C = compute_t<T>;
    const C k = power_of_two(op.exponent), factor = power_of_two(op.result_exponent);
    const std::int64_t c = call.in[0].type.shape.last();
    parallel_for(call.in[0].type.shape.rows(), row_grain(c),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         const T* x = call.in[0].as<T>() + row * c;
                         T* y = call.out[0].as<T>() + row * c;
                         const LogSumExp<C> s = log_sum_exp(x, c, k);
                         const C top = s.top, inv_sum = C(1 / s.sum);
#pragma omp simd
                         for (std::int64_t i = 0; i < c; ++i) {
                             y[i] = round_to<T>(exp(k * C(x[i]) - top) * inv_sum * factor);
                         }
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<Softmax>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { softmax<typename decltype(tag)::type>(call, op); }};
    });
}

}  // namespace

void register_softmax(KernelRegistry& registry) {
    registry.add<Softmax>({"softmax", takes_all, prepare});
}

}  // namespace octavo::cpu
