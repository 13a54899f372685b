#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void swiglu(const KernelCall& call, int exponent) {
    using C = compute_t<T>;
    const C factor = power_of_two(exponent);
    const T *gate = call.in[0].as<T>(), *up = call.in[1].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const C g = C(gate[i]);
                         y[i] = round_to<T>(g * sigmoid(g * factor) * C(up[i]));
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const int exponent = std::get<SwiGlu>(node.op).exponent;
    return dispatch_plain(node.in[0].dtype, [exponent](auto tag) {
        return Prepared{[exponent](const KernelCall& call) {
            swiglu<typename decltype(tag)::type>(call, exponent);
        }};
    });
}

}  // namespace

void register_swiglu(KernelRegistry& registry) {
    registry.add<SwiGlu>({"swiglu", takes_all, prepare});
}

}  // namespace octavo::cpu
