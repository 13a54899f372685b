// Tiles of FP8 codes that leave a kernel transposed.
#pragma once

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

inline constexpr int kByteTile = 128;

// kByteTile x kByteTile codes in words of four columns. The odd stride spreads the rows that a warp
// writes together over all banks.
struct ByteTile {
    std::uint32_t words[kByteTile][kByteTile / 4 + 1];
};

// Turns 4 x 4 bytes around in registers.
__device__ inline void transpose_4x4(std::uint32_t (&w)[4]) {
    const std::uint32_t a = __byte_perm(w[0], w[1], 0x5140), b = __byte_perm(w[2], w[3], 0x5140);
    const std::uint32_t c = __byte_perm(w[0], w[1], 0x7362), d = __byte_perm(w[2], w[3], 0x7362);
    w[0] = __byte_perm(a, b, 0x5410);
    w[1] = __byte_perm(a, b, 0x7632);
    w[2] = __byte_perm(c, d, 0x5410);
    w[3] = __byte_perm(c, d, 0x7632);
}

// Writes the tile at (row0, column0) of an (m, n) matrix to its place in y (n, m). Both extents are
// multiples of 16. A thread takes 16 rows of 4 columns; eight neighbours write 128 bytes of a row.
__device__ inline void store_transposed(const ByteTile& tile, std::uint8_t* y, std::int64_t m,
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

}  // namespace octavo::cuda
