// Rows of a head spread over a warp, for the kernels of attention and its gradient that give a warp
// a row.
#pragma once

#include "backends/cuda/attention.h"
#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

inline constexpr std::int64_t kMostHeadElements = 256;
inline constexpr int kWarps = kBlock / kWarp;
// Rows of the other side that a warp works on together, so that their loads and sums overlap.
inline constexpr int kTogether = 4;

// D elements over the lanes of a warp, E each, zeros past the end. Packed: E neighbours, where E
// divides D; else every 32nd.
template <int E_, bool kPacked>
struct LaneLayout {
    static constexpr int E = E_;

    template <class T, class C>
    static __device__ void load(const T* row, int d, C (&x)[E]) {
        const int lane = threadIdx.x % kWarp;
        if constexpr (kPacked) {
            if (lane * E < d) {
                cuda::load<E>(row + lane * E, x);
                return;
            }
#pragma unroll
            for (int i = 0; i < E; ++i) x[i] = 0;
        } else {
#pragma unroll
            for (int i = 0; i < E; ++i) {
                const int at = lane + i * kWarp;
                x[i] = at < d ? static_cast<C>(widen(row[at])) : C(0);
            }
        }
    }

    template <class T, class C>
    static __device__ void store(T* row, int d, const C (&x)[E]) {
        const int lane = threadIdx.x % kWarp;
        if constexpr (kPacked) {
            if (lane * E < d) cuda::store<E>(row + lane * E, x);
        } else {
#pragma unroll
            for (int i = 0; i < E; ++i) {
                const int at = lane + i * kWarp;
                if (at < d) row[at] = round_to<T>(x[i]);
            }
        }
    }
};

// Of a query with a document's start beside it.
__device__ inline std::int64_t first_key(std::int32_t start, std::int64_t row) {
    return start < 0 ? 0 : start < row ? start : row;
}

template <int E, class C>
__device__ inline C dot(const C (&x)[E], const C (&y)[E]) {
    C sum = 0;
#pragma unroll
    for (int i = 0; i < E; ++i) sum += x[i] * y[i];
    return sum;
}

// f(LaneLayout) for heads of d <= kMostHeadElements elements of T.
template <class T, class F>
void dispatch_lanes(std::int64_t d, F&& f) {
    if constexpr (!std::is_same_v<T, double>) {
        if (d <= 64 && d % 2 == 0) return f(LaneLayout<2, true>{});
        if (d <= 128 && d % 4 == 0) return f(LaneLayout<4, true>{});
        if (d % 8 == 0) return f(LaneLayout<8, true>{});
    }
    f(LaneLayout<8, false>{});
}

inline Refusal reject_long_heads(const NodeView& node) {
    const std::int64_t d = node.in[0].shape[3];
    if (d <= kMostHeadElements) return std::nullopt;
    return fmt::format("heads of {} elements; up to {} are supported", d, kMostHeadElements);
}

}  // namespace octavo::cuda
