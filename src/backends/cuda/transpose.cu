#include "backends/cuda/transpose.h"

#include "backends/cuda/squares.cuh"
#include "backends/stack.h"

namespace octavo::cuda {
namespace {

// A tile is 128 bytes by 64 rows on the way in and 64 elements by its columns on the way out, so
// that both sides move whole 32-byte sectors.
template <class Code>
struct Tile {
    static constexpr int kColumns = 128 / sizeof(Code), kRows = 64;
};

template <class Code>
__global__ void __launch_bounds__(kBlock)
    transpose_kernel(const Code* x, Code* y, std::int64_t m, std::int64_t n) {
    x += blockIdx.z * m * n;  // the matrix of a stack
    y += blockIdx.z * m * n;
    using T = Tile<Code>;
    __shared__ Code tile[T::kRows][T::kColumns + 4 / sizeof(Code) + (sizeof(Code) > 4)];
    const std::int64_t column0 = std::int64_t{blockIdx.x} * T::kColumns;
    const std::int64_t row0 = std::int64_t{blockIdx.y} * T::kRows;
    constexpr int kElements = T::kRows * T::kColumns;
    for (int i = static_cast<int>(threadIdx.x); i < kElements; i += kBlock) {
        const int row = i / T::kColumns, column = i % T::kColumns;
        if (row0 + row < m && column0 + column < n) {
            tile[row][column] = x[(row0 + row) * n + column0 + column];
        }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kElements; i += kBlock) {
        const int column = i / T::kRows, row = i % T::kRows;
        if (row0 + row < m && column0 + column < n) {
            y[(column0 + column) * m + row0 + row] = tile[row][column];
        }
    }
}

// m and n are multiples of 8.
__global__ void __launch_bounds__(kBlock)
    transpose_bytes_kernel(const std::uint8_t* x, std::uint8_t* y, std::int64_t m, std::int64_t n) {
    x += blockIdx.z * m * n;
    y += blockIdx.z * m * n;
    const Place at(m, n, blockIdx.x, blockIdx.y);
    if (at.row0() >= m || at.column0() >= n) return;
    CodeSquare codes;
#pragma unroll
    for (int r = 0; r < kPacket; ++r) {
        codes.set(r, *reinterpret_cast<const uint2*>(x + (at.row0() + r) * n + at.column0()));
    }
    write_lines(codes.transposed(), y, at.column0(), n, at.row0(), m);
}

unsigned tiles(std::int64_t n, int tile) { return static_cast<unsigned>(ceil_div(n, tile)); }

// `count` matrices (m, n).
struct Stack {
    std::int64_t count, m, n;
};

template <class Code>
void launch(const TensorRef& x, const TensorRef& y, const Stack& s) {
    using T = Tile<Code>;
    const dim3 grid(tiles(s.n, T::kColumns), tiles(s.m, T::kRows), static_cast<unsigned>(s.count));
    transpose_kernel<<<grid, kBlock, 0, stream()>>>(x.as<Code>(), y.as<Code>(), s.m, s.n);
}

__global__ void __launch_bounds__(kBlock)
    transpose_scales_kernel(const float* x, float* y, std::int64_t rows, std::int64_t columns,
                            std::int64_t x_pitch, std::int64_t y_pitch) {
    // y has `columns` rows of `rows` scales and zeros behind them.
    x += blockIdx.z * rows * x_pitch;
    y += blockIdx.z * columns * y_pitch;
    const std::int64_t i = std::int64_t{blockIdx.x} * kBlock + threadIdx.x;
    if (i >= columns * y_pitch) return;
    const std::int64_t row = i % y_pitch, column = i / y_pitch;
    y[i] = row < rows ? x[row * x_pitch + column] : 0.0f;
}

void transpose_scales(const TensorRef& x, const TensorRef& y, const Stack& s) {
    if (!y.scale) return;
    if (y.type.scaling == kPerTensor) return copy(x.scale, y.scale, sizeof(float));
    const std::int64_t rows = ceil_div(s.m, kScaleBlock), columns = ceil_div(s.n, kScaleBlock);
    const std::int64_t pitch = scale_layout(y.type).pitch, n = columns * pitch;
    if (n == 0 || s.count == 0) return;
    const dim3 grid(static_cast<unsigned>(ceil_div(n, kBlock)), 1, static_cast<unsigned>(s.count));
    transpose_scales_kernel<<<grid, kBlock, 0, stream()>>>(x.scales(), y.scales(), rows, columns,
                                                           scale_layout(x.type).pitch, pitch);
    launched("transpose");
}

void transpose_stack(const TensorRef& x, const TensorRef& y, const Stack& s) {
    transpose_scales(x, y, s);
    if (s.count == 0 || s.m == 0 || s.n == 0) return;
    const std::size_t size = size_of(x.type.dtype);
    if (size == 1 && s.m % kPacket == 0 && s.n % kPacket == 0) {
        dim3 grid = tiles_of(s.m, s.n);
        grid.z = static_cast<unsigned>(s.count);
        transpose_bytes_kernel<<<grid, kBlock, 0, stream()>>>(x.as<std::uint8_t>(),
                                                              y.as<std::uint8_t>(), s.m, s.n);
    } else if (size == 1) {
        launch<std::uint8_t>(x, y, s);
    } else if (size == 2) {
        launch<std::uint16_t>(x, y, s);
    } else if (size == 4) {
        launch<std::uint32_t>(x, y, s);
    } else {
        launch<std::uint64_t>(x, y, s);
    }
    launched("transpose");
}

Prepared prepare(const NodeView& node) {
    if (!std::get<Transpose>(node.op).batched) {
        return {[](const KernelCall& call) { transpose(call.in[0], call.out[0]); }};
    }
    const Shape& x = node.in[0].shape;
    return {[s = Stack{x[0], x[1], x[2]}](const KernelCall& call) {
        transpose_stack(call.in[0], call.out[0], s);
    }};
}

Refusal reject(const NodeView& node) {
    constexpr std::int64_t kMostMatrices = 65535;  // blocks along z
    if (!std::get<Transpose>(node.op).batched) return reject_tall(node.in[0]);
    if (node.in[0].shape[0] <= kMostMatrices) return reject_tall(matrix_of(node.in[0]));
    return fmt::format("{} matrices; up to {} are supported", node.in[0].shape[0], kMostMatrices);
}

}  // namespace

Refusal reject_tall(const Type& x) {
    constexpr std::int64_t kMostRows = 65535 * 64;  // blocks along y, with rows of a tile
    if (x.shape.rows() <= kMostRows) return std::nullopt;
    return fmt::format("{} rows; up to {} are supported", x.shape.rows(), kMostRows);
}

void transpose(const TensorRef& x, const TensorRef& y) {
    transpose_stack(x, y, {1, x.type.shape.rows(), x.type.shape.last()});
}

void register_transpose(KernelRegistry& registry) {
    registry.add<Transpose>({"transpose", reject, prepare});
}

}  // namespace octavo::cuda
