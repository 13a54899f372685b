// What fused quantisers quantise: get<N>(i, v) gives elements [i, i + N) of each result, rounded to
// T.
#pragma once

#include "backends/cuda/activations.cuh"
#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

template <class T>
struct ValueSource {
    static constexpr int kResults = 1;
    const T* x;

    template <int N>
    __device__ void get(std::int64_t i, compute_t<T> (&v)[1][N]) const {
        load<N>(x + i, v[0]);
    }
};

template <class T, class F, int Operands>
struct MapSource {
    static constexpr int kResults = 1;
    const T* in[Operands];
    F f;

    template <int N>
    __device__ void get(std::int64_t i, compute_t<T> (&v)[1][N]) const {
        compute_t<T> x[Operands][N];
#pragma unroll
        for (int k = 0; k < Operands; ++k) load<N>(in[k] + i, x[k]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if constexpr (Operands == 1) {
                v[0][k] = f(x[0][k]);
            } else {
                v[0][k] = f(x[0][k], x[1][k]);
            }
        }
        round_values<T>(v[0]);
    }
};

template <class T>
struct SwiGluGradSource {
    static constexpr int kResults = 2;
    const T *gate, *up, *dy;
    compute_t<T> factor;  // of the gate

    template <int N>
    __device__ void get(std::int64_t i, compute_t<T> (&v)[2][N]) const {
        compute_t<T> g[N], u[N], d[N];
        load<N>(gate + i, g);
        load<N>(up + i, u);
        load<N>(dy + i, d);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            swiglu_gradients(g[k], u[k], d[k], factor, v[0][k], v[1][k]);
        }
        round_values<T>(v[0]);
        round_values<T>(v[1]);
    }
};

// f(source) for the operands of the source op, whose function sees its operand times `factor`.
template <class T, class F>
void with_source(QuantiseSource of, std::span<const TensorRef> operands, F&& f, float factor = 1) {
    const auto in = [&](std::size_t i) { return operands[i].as<T>(); };
    switch (of) {
        case QuantiseSource::value:
            return f(ValueSource<T>{in(0)});
        case QuantiseSource::swiglu:
            return f(MapSource<T, SwiGluFunction, 2>{{in(0), in(1)}, {factor}});
        case QuantiseSource::gelu:
            return f(MapSource<T, GeluFunction, 1>{{in(0)}, {factor}});
        case QuantiseSource::gelu_grad:
            return f(MapSource<T, GeluGradFunction, 2>{{in(0), in(1)}, {factor}});
        case QuantiseSource::swiglu_grad:
            return f(SwiGluGradSource<T>{in(0), in(1), in(2), compute_t<T>(factor)});
    }
}

}  // namespace octavo::cuda
