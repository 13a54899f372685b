// Column sums over rows, as the gradients of biases and of the weights of norms need them. Rows are
// cut into chunks that depend on the shape alone; the sums of a chunk go to a partial row, and the
// partial rows are added in order. The result is therefore the same in every run, on any GPU.
#pragma once

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

// As many chunks as an H100 works on at once, at kPacket columns a thread and 1,024 threads for
// each of its 132 multiprocessors: one more would wait for all others. At least one, so that an
// empty sum becomes 0.
inline std::int64_t row_chunks(std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kMultiprocessors = 132, kThreads = 1024;
    constexpr std::int64_t kFewRows = 16;  // below that, partial rows cost more than they help
    const std::int64_t blocks = std::max<std::int64_t>(kThreads / row_threads(columns), 1);
    const std::int64_t most = kMultiprocessors * blocks;
    return std::max<std::int64_t>(1, std::min(most, ceil_div(rows, kFewRows)));
}

struct RowRange {
    std::int64_t begin, end;
};
__device__ inline RowRange chunk_rows(std::int64_t rows, std::int64_t chunk, std::int64_t chunks) {
    return {rows * chunk / chunks, rows * (chunk + 1) / chunks};
}

template <class C>
std::int64_t partial_bytes(std::int64_t rows, std::int64_t columns) {
    return row_chunks(rows, columns) * columns * static_cast<std::int64_t>(sizeof(C));
}

constexpr int kAddLanes = 16;  // threads that share the partial rows of a column

template <class C>
__global__ void __launch_bounds__(kWarp* kAddLanes)
    add_partials_kernel(const C* partials, std::int64_t chunks, std::int64_t columns, C* sums) {
    __shared__ C shared[kAddLanes][kWarp];
    const std::int64_t column = std::int64_t{blockIdx.x} * kWarp + threadIdx.x;
    C sum = 0;
    if (column < columns) {
#pragma unroll 8
        for (std::int64_t i = threadIdx.y; i < chunks; i += kAddLanes) {
            sum += partials[i * columns + column];
        }
    }
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= columns) return;
    for (int i = 1; i < kAddLanes; ++i) sum += shared[i][threadIdx.x];
    sums[column] = sum;
}

// sums[j] = sum over the `chunks` partial rows.
template <class C>
void add_partials(std::string_view what, const C* partials, std::int64_t chunks,
                  std::int64_t columns, C* sums) {
    if (columns == 0) return;
    add_partials_kernel<<<static_cast<unsigned>(ceil_div(columns, kWarp)), dim3(kWarp, kAddLanes),
                          0, stream()>>>(partials, chunks, columns, sums);
    launched(what);
}

template <int N, int kSums, class C, class Body>
__global__ void __launch_bounds__(kBlock)
    column_partials_kernel(std::int64_t rows, std::int64_t columns, C* partials, Body body) {
    const std::int64_t chunk = blockIdx.x, chunks = gridDim.x;
    const std::int64_t column = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
    if (column >= columns) return;
    C sums[kSums][N] = {};
    const RowRange range = chunk_rows(rows, chunk, chunks);
#pragma unroll 4
    for (std::int64_t row = range.begin; row < range.end; ++row) {
        body.template run<N>(row, column, sums);
    }
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
        store<N>(partials + (s * chunks + chunk) * columns + column, sums[s]);
    }
}

// For every row and packet of columns, body.run<N>(row, column, sums) adds to sums[s][N], s <
// kSums. The partial rows of the first sum are followed by those of the next.
template <int kSums, class C, class Body>
void column_partials(std::string_view what, std::int64_t rows, std::int64_t columns, C* partials,
                     const Body& body) {
    if (columns == 0) return;
    const auto launch = [&]<int N>() {
        const unsigned threads = std::min<unsigned>(kBlock, row_threads(columns * kPacket / N));
        const dim3 grid(static_cast<unsigned>(row_chunks(rows, columns)),
                        static_cast<unsigned>(ceil_div(columns, std::int64_t{threads} * N)));
        column_partials_kernel<N, kSums>
            <<<grid, threads, 0, stream()>>>(rows, columns, partials, body);
        launched(what);
    };
    if (columns % kPacket == 0) {
        launch.template operator()<kPacket>();
    } else {
        launch.template operator()<1>();
    }
}

}  // namespace octavo::cuda
