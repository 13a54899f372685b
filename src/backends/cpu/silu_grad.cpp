#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void silu_grad(const KernelCall& call, int exponent) {
    using C = compute_t<T>;
    const C factor = power_of_two(exponent);
    const T *x = call.in[0].as<T>(), *dy = call.in[1].as<T>();
    T* dx = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const C v = C(x[i]) * factor, s = sigmoid(v);
                         dx[i] = round_to<T>(C(dy[i]) * (s * (C(1) + v * (C(1) - s))));
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const int exponent = std::get<SiluGrad>(node.op).exponent;
    return dispatch_plain(node.in[0].dtype, [exponent](auto tag) {
        return Prepared{[exponent](const KernelCall& call) {
            silu_grad<typename decltype(tag)::type>(call, exponent);
        }};
    });
}

}  // namespace

void register_silu_grad(KernelRegistry& registry) {
    registry.add<SiluGrad>({"silu_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
