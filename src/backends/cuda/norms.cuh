// Norms once their statistics are known, for the norms themselves and for whoever makes y from
// those: the same bits.
#pragma once

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

// v = v * rstd * w, for the columns from `column` on.
template <int N, class C>
__device__ inline void rms_normalise(C (&v)[N], C rstd, const C* w, std::int64_t column) {
    C factor[N];
    load<N>(w + column, factor);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] = v[k] * rstd * factor[k];
}

// v = (v - mean) * rstd * w + b
template <int N, class C>
__device__ inline void layer_normalise(C (&v)[N], C mean, C rstd, const C* w, const C* b,
                                       std::int64_t column) {
    C factor[N], offset[N];
    load<N>(w + column, factor);
    load<N>(b + column, offset);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] = (v[k] - mean) * rstd * factor[k] + offset[k];
}

template <class C>
struct RmsFunction {
    const C *w, *rstd;

    template <int N>
    __device__ void apply(std::int64_t row, std::int64_t column, C (&v)[N]) const {
        rms_normalise(v, rstd[row], w, column);
    }
};

template <class C>
struct LayerFunction {
    const C *w, *b, *mean, *rstd;

    template <int N>
    __device__ void apply(std::int64_t row, std::int64_t column, C (&v)[N]) const {
        layer_normalise(v, mean[row], rstd[row], w, b, column);
    }
};

}  // namespace octavo::cuda
