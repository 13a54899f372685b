#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void silu(const KernelCall& call, int exponent) {
    using C = compute_t<T>;
    const C factor = power_of_two(exponent);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const C v = C(x[i]);
                         y[i] = round_to<T>(v * sigmoid(v * factor));
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const int exponent = std::get<Silu>(node.op).exponent;
    return dispatch_plain(node.in[0].dtype, [exponent](auto tag) {
        return Prepared{[exponent](const KernelCall& call) {
            silu<typename decltype(tag)::type>(call, exponent);
        }};
    });
}

}  // namespace

void register_silu(KernelRegistry& registry) { registry.add<Silu>({"silu", takes_all, prepare}); }

}  // namespace octavo::cpu
