#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void swiglu(const T* gate, const T* up, T* y, std::int64_t n, compute_t<T> factor) {
    using C = compute_t<T>;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
        const C g = C(gate[i]);
        y[i] = round_to<T>(g * sigmoid(g * factor) * C(up[i]));
    }
}

template <class T>
void swiglu(const KernelCall& call, const SwiGlu& op) {
    const compute_t<T> factor = power_of_two(op.exponent);
    const Shape& shape = call.out[0].type.shape;
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    if (!op.joined) {
        const T* up = call.in[1].as<T>();
        parallel_for(shape.elements(), row_grain(1), [&](std::int64_t begin, std::int64_t end) {
            swiglu(x + begin, up + begin, y + begin, end - begin, factor);
        });
        return;
    }
    const std::int64_t n = shape.last();
    parallel_for(shape.rows(), row_grain(n), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T* gate = x + row * 2 * n;
            swiglu(gate, gate + n, y + row * n, n, factor);
        }
    });
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [op = std::get<SwiGlu>(node.op)](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { swiglu<typename decltype(tag)::type>(call, op); }};
    });
}

}  // namespace

void register_swiglu(KernelRegistry& registry) {
    registry.add<SwiGlu>({"swiglu", takes_all, prepare});
}

}  // namespace octavo::cpu
