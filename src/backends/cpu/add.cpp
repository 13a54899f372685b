#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void add(const KernelCall& call, Add op) {
    using C = compute_t<T>;
    const C a_factor = power_of_two(op.a_exponent), b_factor = power_of_two(op.b_exponent);
    const T *a = call.in[0].as<T>(), *b = call.in[1].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         y[i] = round_to<T>(C(a[i]) * a_factor + C(b[i]) * b_factor);
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<Add>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { add<typename decltype(tag)::type>(call, op); }};
    });
}

}  // namespace

void register_add(KernelRegistry& registry) { registry.add<Add>({"add", takes_all, prepare}); }

}  // namespace octavo::cpu
