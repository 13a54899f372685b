#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void swiglu_grad(const KernelCall& call, int exponent) {
    using C = compute_t<T>;
    const C factor = power_of_two(exponent);
    const T *gate = call.in[0].as<T>(), *up = call.in[1].as<T>(), *dy = call.in[2].as<T>();
    T *dgate = call.out[0].as<T>(), *dup = call.out[1].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const C g = C(gate[i]), u = C(up[i]), d = C(dy[i]);
                         const C v = g * factor, s = sigmoid(v);
                         dgate[i] = round_to<T>(d * u * (s * (C(1) + v * (C(1) - s))));
                         dup[i] = round_to<T>(d * (g * s));
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const int exponent = std::get<SwiGluGrad>(node.op).exponent;
    return dispatch_plain(node.in[0].dtype, [exponent](auto tag) {
        return Prepared{[exponent](const KernelCall& call) {
            swiglu_grad<typename decltype(tag)::type>(call, exponent);
        }};
    });
}

}  // namespace

void register_swiglu_grad(KernelRegistry& registry) {
    registry.add<SwiGluGrad>({"swiglu_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
