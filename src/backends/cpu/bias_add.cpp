#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void bias_add(const KernelCall& call, BiasAdd op) {
    using C = compute_t<T>;
    const C x_factor = power_of_two(op.x_exponent), b_factor = power_of_two(op.bias_exponent);
    const T* x = call.in[0].as<T>();
    const C* b = call.in[1].as<C>();
    T* y = call.out[0].as<T>();
    const std::int64_t n = call.in[0].type.shape.last();
    parallel_for(call.in[0].type.shape.rows(), row_grain(n),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         const T* xr = x + row * n;
                         T* yr = y + row * n;
#pragma omp simd
                         for (std::int64_t i = 0; i < n; ++i) {
                             yr[i] = round_to<T>(C(xr[i]) * x_factor + b[i] * b_factor);
                         }
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<BiasAdd>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { bias_add<typename decltype(tag)::type>(call, op); }};
    });
}

}  // namespace

void register_bias_add(KernelRegistry& registry) {
    registry.add<BiasAdd>({"bias_add", takes_all, prepare});
}

}  // namespace octavo::cpu
