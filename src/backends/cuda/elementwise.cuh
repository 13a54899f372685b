// Ops that compute each element of one result from the same element of one or two operands.
#pragma once

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

template <class T, class F, int Operands>
struct Map {
    const T* in[Operands];
    T* out;
    F f;

    template <int N>
    __device__ void run(std::int64_t i) const {
        using C = compute_t<T>;
        C x[Operands][N], y[N];
#pragma unroll
        for (int k = 0; k < Operands; ++k) load<N>(in[k] + i, x[k]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if constexpr (Operands == 1) {
                y[k] = f(x[0][k]);
            } else {
                y[k] = f(x[0][k], x[1][k]);
            }
        }
        store<N>(out + i, y);
    }
};

// A kernel for an op that is f(x) or f(a, b) in compute_t<T>.
template <int Operands, class F>
Prepared prepare_map(const NodeView& node, F f) {
    return dispatch_plain(node.in[0].dtype, [f](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[f](const KernelCall& call) {
            Map<T, F, Operands> map{};
            map.f = f;
            for (int k = 0; k < Operands; ++k) map.in[k] = call.in[k].as<T>();
            map.out = call.out[0].as<T>();
            for_elements("an elementwise kernel", call.out[0].type.shape.elements(), map);
        }};
    });
}

}  // namespace octavo::cuda
