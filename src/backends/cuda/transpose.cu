#include "backends/cuda/transpose.h"

#include "backends/cuda/kernels.cuh"

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
    using T = Tile<Code>;
    __shared__ Code tile[T::kRows][T::kColumns + 4 / sizeof(Code) + (sizeof(Code) > 4)];
    const std::int64_t column0 = std::int64_t{blockIdx.x} * T::kColumns;
    const std::int64_t row0 = std::int64_t{blockIdx.y} * T::kRows;
    constexpr int kTile = T::kRows * T::kColumns;
    for (int i = static_cast<int>(threadIdx.x); i < kTile; i += kBlock) {
        const int row = i / T::kColumns, column = i % T::kColumns;
        if (row0 + row < m && column0 + column < n) {
            tile[row][column] = x[(row0 + row) * n + column0 + column];
        }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kTile; i += kBlock) {
        const int column = i / T::kRows, row = i % T::kRows;
        if (row0 + row < m && column0 + column < n) {
            y[(column0 + column) * m + row0 + row] = tile[row][column];
        }
    }
}

constexpr int kByteTile = 128;

// kByteTile x kByteTile codes in words of four columns. The odd stride spreads the rows that a warp
// writes together over all banks.
struct ByteTile {
    std::uint32_t words[kByteTile][kByteTile / 4 + 1];
};

// Turns 4 x 4 bytes around in registers.
__device__ void transpose_4x4(std::uint32_t (&w)[4]) {
    const std::uint32_t a = __byte_perm(w[0], w[1], 0x5140), b = __byte_perm(w[2], w[3], 0x5140);
    const std::uint32_t c = __byte_perm(w[0], w[1], 0x7362), d = __byte_perm(w[2], w[3], 0x7362);
    w[0] = __byte_perm(a, b, 0x5410);
    w[1] = __byte_perm(a, b, 0x7632);
    w[2] = __byte_perm(c, d, 0x5410);
    w[3] = __byte_perm(c, d, 0x7632);
}

// Writes the tile at (row0, column0) of an (m, n) matrix to its place in y (n, m). Both extents are
// multiples of 16. A thread takes 16 rows of 4 columns; eight neighbours write 128 bytes of a row.
__device__ void store_transposed(const ByteTile& tile, std::uint8_t* y, std::int64_t m,
                                 std::int64_t n, std::int64_t row0, std::int64_t column0) {
    constexpr int kPackets = kByteTile / 16, kWords = kByteTile / 4;
    for (int i = static_cast<int>(threadIdx.x); i < kPackets * kWords; i += kBlock) {
        const int packet = i % kPackets, word = i / kPackets;
        if (row0 + packet * 16 >= m || column0 + word * 4 >= n) continue;
        std::uint32_t out[4][4];  // [column][word of four rows]
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            std::uint32_t w[4];
#pragma unroll
            for (int r = 0; r < 4; ++r) w[r] = tile.words[packet * 16 + q * 4 + r][word];
            transpose_4x4(w);
#pragma unroll
            for (int c = 0; c < 4; ++c) out[c][q] = w[c];
        }
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            *reinterpret_cast<uint4*>(y + (column0 + word * 4 + c) * m + row0 + packet * 16) =
                uint4{out[c][0], out[c][1], out[c][2], out[c][3]};
        }
    }
}

// m and n are multiples of 16; partial tiles are allowed.
__global__ void __launch_bounds__(kBlock)
    transpose_bytes_kernel(const std::uint8_t* x, std::uint8_t* y, std::int64_t m, std::int64_t n) {
    __shared__ ByteTile tile;
    const std::int64_t column0 = std::int64_t{blockIdx.x} * kByteTile;
    const std::int64_t row0 = std::int64_t{blockIdx.y} * kByteTile;
    constexpr int kPackets = kByteTile / 16;  // of 16 bytes, per row
    for (int i = static_cast<int>(threadIdx.x); i < kByteTile * kPackets; i += kBlock) {
        const int row = i / kPackets, packet = i % kPackets;
        if (row0 + row >= m || column0 + packet * 16 >= n) continue;
        const uint4 v =
            *reinterpret_cast<const uint4*>(x + (row0 + row) * n + column0 + packet * 16);
        tile.words[row][packet * 4] = v.x;
        tile.words[row][packet * 4 + 1] = v.y;
        tile.words[row][packet * 4 + 2] = v.z;
        tile.words[row][packet * 4 + 3] = v.w;
    }
    __syncthreads();
    store_transposed(tile, y, m, n, row0, column0);
}

unsigned tiles(std::int64_t n, int tile) { return static_cast<unsigned>(ceil_div(n, tile)); }

template <class Code>
void launch(const TensorRef& x, const TensorRef& y, std::int64_t m, std::int64_t n) {
    using T = Tile<Code>;
    transpose_kernel<<<dim3(tiles(n, T::kColumns), tiles(m, T::kRows)), kBlock, 0, stream()>>>(
        x.as<Code>(), y.as<Code>(), m, n);
}

__global__ void __launch_bounds__(kBlock)
    transpose_scales_kernel(const float* x, float* y, std::int64_t rows, std::int64_t columns,
                            std::int64_t x_pitch, std::int64_t y_pitch) {
    // y has `columns` rows of `rows` scales and zeros behind them.
    const std::int64_t i = std::int64_t{blockIdx.x} * kBlock + threadIdx.x;
    if (i >= columns * y_pitch) return;
    const std::int64_t row = i % y_pitch, column = i / y_pitch;
    y[i] = row < rows ? x[row * x_pitch + column] : 0.0f;
}

void transpose_scales(const TensorRef& x, const TensorRef& y) {
    if (!y.scale) return;
    if (y.type.scaling == kPerTensor) return copy(x.scale, y.scale, sizeof(float));
    const std::int64_t n = scale_count(y.type);
    if (n == 0) return;
    const std::int64_t rows = ceil_div(x.type.shape.rows(), kScaleBlock);
    const std::int64_t columns = ceil_div(x.type.shape.last(), kScaleBlock);
    transpose_scales_kernel<<<static_cast<unsigned>(ceil_div(n, kBlock)), kBlock, 0, stream()>>>(
        x.scales(), y.scales(), rows, columns, scale_layout(x.type).pitch,
        scale_layout(y.type).pitch);
    launched("transpose");
}

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) { transpose(call.in[0], call.out[0]); }};
}

Refusal reject(const NodeView& node) { return reject_tall(node.in[0]); }

}  // namespace

Refusal reject_tall(const Type& x) {
    constexpr std::int64_t kMostRows = 65535 * 64;  // blocks along y, with rows of a tile
    if (x.shape.rows() <= kMostRows) return std::nullopt;
    return fmt::format("{} rows; up to {} are supported", x.shape.rows(), kMostRows);
}

void transpose(const TensorRef& x, const TensorRef& y) {
    const std::int64_t m = x.type.shape.rows(), n = x.type.shape.last();
    transpose_scales(x, y);
    if (m == 0 || n == 0) return;
    const std::size_t size = size_of(x.type.dtype);
    if (size == 1 && m % 16 == 0 && n % 16 == 0) {
        transpose_bytes_kernel<<<dim3(tiles(n, kByteTile), tiles(m, kByteTile)), kBlock, 0,
                                 stream()>>>(x.as<std::uint8_t>(), y.as<std::uint8_t>(), m, n);
    } else if (size == 1) {
        launch<std::uint8_t>(x, y, m, n);
    } else if (size == 2) {
        launch<std::uint16_t>(x, y, m, n);
    } else if (size == 4) {
        launch<std::uint32_t>(x, y, m, n);
    } else {
        launch<std::uint64_t>(x, y, m, n);
    }
    launched("transpose");
}

void register_transpose(KernelRegistry& registry) {
    registry.add<Transpose>({"transpose", reject, prepare});
}

}  // namespace octavo::cuda
