#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

template <class T>
struct JoinedSwiGlu {
    const T* x;
    T* y;
    std::int64_t columns;  // of y
    SwiGluFunction f;

    template <int N>
    __device__ void run(std::int64_t i) const {
        using C = compute_t<T>;
        C gate[N], up[N], v[N];
        if (N > 1 && columns % N == 0) {
            const T* from = x + i / columns * 2 * columns + i % columns;
            load<N>(from, gate);
            load<N>(from + columns, up);
        } else {
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const T* from = x + (i + k) / columns * 2 * columns + (i + k) % columns;
                gate[k] = static_cast<C>(widen(from[0]));
                up[k] = static_cast<C>(widen(from[columns]));
            }
        }
#pragma unroll
        for (int k = 0; k < N; ++k) v[k] = f(gate[k], up[k]);
        store<N>(y + i, v);
    }
};

Prepared prepare(const NodeView& node) {
    const SwiGlu op = std::get<SwiGlu>(node.op);
    const SwiGluFunction f{power_of_two(op.exponent)};
    if (!op.joined) return prepare_map<2>(node, f);
    return dispatch_plain(node.in[0].dtype, [f](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[f](const KernelCall& call) {
            const Shape& shape = call.out[0].type.shape;
            for_elements("swiglu", shape.elements(),
                         JoinedSwiGlu<T>{call.in[0].as<T>(), call.out[0].as<T>(), shape.last(), f});
        }};
    });
}

}  // namespace

void register_swiglu(KernelRegistry& registry) {
    registry.add<SwiGlu>({"swiglu", takes_all, prepare});
}

}  // namespace octavo::cuda
