#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

// (1 + tanh(u)) / 2 = sigmoid(2u): cheaper than tanh, and without its cancellation for x << 0.
template <class T>
void gelu(const KernelCall& call, int exponent) {
    using C = compute_t<T>;
    const C factor = power_of_two(exponent);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const C v = C(x[i]) * factor;
                         y[i] = round_to<T>(C(x[i]) * sigmoid(v * (k + k3 * v * v)));
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const int exponent = std::get<Gelu>(node.op).exponent;
    return dispatch_plain(node.in[0].dtype, [exponent](auto tag) {
        return Prepared{[exponent](const KernelCall& call) {
            gelu<typename decltype(tag)::type>(call, exponent);
        }};
    });
}

}  // namespace

void register_gelu(KernelRegistry& registry) { registry.add<Gelu>({"gelu", takes_all, prepare}); }

}  // namespace octavo::cpu
