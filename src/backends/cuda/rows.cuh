// Loops over the rows of a matrix, for kernels that need the whole of a row at once: a short row is
// given to a warp, a longer one to a block.
#pragma once

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

// The threads that share a row. sum() and max() are called by all of them.
struct WarpPerRow {
    static __device__ std::int64_t row() {
        return std::int64_t{blockIdx.x} * (kBlock / kWarp) + threadIdx.x / kWarp;
    }
    static __device__ int thread() { return threadIdx.x % kWarp; }
    static __device__ int threads() { return kWarp; }
    template <class C>
    static __device__ C sum(C x) {
        return warp_sum(x);
    }
    template <class C>
    static __device__ C max(C x) {
        return warp_max(x);
    }
};

struct BlockPerRow {
    static __device__ std::int64_t row() { return blockIdx.x; }
    static __device__ int thread() { return static_cast<int>(threadIdx.x); }
    static __device__ int threads() { return static_cast<int>(blockDim.x); }
    template <class C>
    static __device__ C sum(C x) {
        return block_sum(x);
    }
    template <class C>
    static __device__ C max(C x) {
        return block_max(x);
    }
};

// f(i) for the packets [i, i + N) of a row that are this thread's.
template <class Team, int N, class F>
__device__ inline void over_row(std::int64_t columns, F&& f) {
    for (std::int64_t i = Team::thread() * N; i < columns; i += Team::threads() * N) f(i);
}

template <class Team, int N, class Body>
__global__ void __launch_bounds__(512) row_kernel(std::int64_t rows, Body body) {
    const std::int64_t row = Team::row();
    if (row < rows) body.template run<Team, N>(row);
}

// body.run<Team, N>(row) for every row; N is kPacket where it divides the number of columns.
// A row that is read a second time comes from the L1 cache.
template <class Body>
void for_rows(std::string_view what, std::int64_t rows, std::int64_t columns, const Body& body) {
    constexpr std::int64_t kShortRow = 1024;
    if (rows == 0) return;
    const auto blocks = static_cast<unsigned>(rows);
    if (columns % kPacket != 0) {
        row_kernel<BlockPerRow, 1><<<blocks, row_threads(columns), 0, stream()>>>(rows, body);
    } else if (columns > kShortRow) {
        row_kernel<BlockPerRow, kPacket><<<blocks, row_threads(columns), 0, stream()>>>(rows, body);
    } else {
        const auto shared = static_cast<unsigned>(ceil_div(rows, kBlock / kWarp));
        row_kernel<WarpPerRow, kPacket><<<shared, kBlock, 0, stream()>>>(rows, body);
    }
    launched(what);
}

}  // namespace octavo::cuda
