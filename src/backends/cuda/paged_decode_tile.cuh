// Keys and values in the registers of a warp, as decoding multiplies them.
#pragma once

#include "backends/cuda/paged_attention.cuh"
#include "backends/cuda/ptx.cuh"

namespace octavo::cuda {

// The layout of a tile of keys and values over a warp, lane = 4 g + c. Which element of a head is
// which along K or M of a product is ours to choose: neighbours, for wide accesses.
template <class P, int D>
struct DecodeTile {
    static constexpr bool kCoded = sizeof(P) == 1;
    static constexpr int kKeys = D * sizeof(P) == 256 ? 16 : 32;
    static constexpr int kParts = kKeys / 16;  // products along keys

    // Keys g, g + 8, ...: of each four lanes' accesses side by side, kChunks times.
    static constexpr int kWide = 16 / sizeof(P);
    static constexpr int kChunks = D / (4 * kWide);
    // Values of the keys 2 c, 2 c + 1, 2 c + 8, 2 c + 9, ...: eight lanes' accesses side by side.
    static constexpr int kTall = kWide < D / 8 ? kWide : D / 8;
    static constexpr int kRuns = D / (8 * kTall);
    using Run = Word<kTall * sizeof(P)>;

    uint4 k[kParts][2][kChunks];
    Run v[kParts][4][kRuns];

    // The element of a head that step i of the first product begins with; it takes four of a lane.
    static __device__ int key_element(int i, int c) {
        return i / (kWide / 4) * (4 * kWide) + c * kWide + i % (kWide / 4) * 4;
    }
    // The element with which a lane's run i begins.
    static __device__ int value_element(int i, int g) { return (i * 8 + g) * kTall; }

    // What lies past the last key is zero: it may be anything in the pool.
    template <class At>
    __device__ void load_keys(const P* pool, At&& at, int stride, int left, int g, int c) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
            const P* block = pool + at(part) + c * kWide;
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const bool valid = 16 * part + 8 * h + g < left;
#pragma unroll
                for (int i = 0; i < kChunks; ++i) {
                    k[part][h][i] = ptx::ld_global_nc<uint4>(
                        block + (8 * h + g) * stride + i * 4 * kWide, valid);
                }
            }
        }
    }
    template <class At>
    __device__ void load_values(const P* pool, At&& at, int stride, int left, int g, int c) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
            const P* block = pool + at(part);
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int key = 2 * c + r % 2 + r / 2 * 8;
                const bool valid = 16 * part + key < left;
#pragma unroll
                for (int i = 0; i < kRuns; ++i) {
                    v[part][r][i] =
                        ptx::ld_global_nc<Run>(block + key * stride + value_element(i, g), valid);
                }
            }
        }
    }

    static __device__ std::uint32_t word(const uint4& x, int i) {
        return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w;
    }
    static __device__ std::uint32_t word(const uint2& x, int i) { return i == 0 ? x.x : x.y; }

    // Four elements of key g + 8 h for step i, codes as f16.
    __device__ void keys(int part, int h, int i, std::uint32_t& first,
                         std::uint32_t& second) const {
        const uint4& chunk = k[part][h][i / (kWide / 4)];
        if constexpr (kCoded) {
            const std::uint32_t codes = word(chunk, i % 4);
            first = decode_f16(codes);
            second = decode_f16(codes >> 16);
        } else {
            first = word(chunk, i % 2 * 2);
            second = word(chunk, i % 2 * 2 + 1);
        }
    }
    // A lane's elements 2 i and 2 i + 1 of two neighbouring keys, each element with its
    // neighbour's.
    __device__ void values(int part, int half, int i, std::uint32_t& even,
                           std::uint32_t& odd) const {
        constexpr int kPairs = kTall / 2;  // of a run
        const Run &a = v[part][2 * half][i / kPairs], &b = v[part][2 * half + 1][i / kPairs];
        const int at = i % kPairs;
        std::uint32_t x, y;
        if constexpr (kCoded) {
            x = decode_f16(word(a, at / 2) >> at % 2 * 16);
            y = decode_f16(word(b, at / 2) >> at % 2 * 16);
        } else {
            x = word(a, at);
            y = word(b, at);
        }
        even = __byte_perm(x, y, 0x5410);
        odd = __byte_perm(x, y, 0x7632);
    }
};

}  // namespace octavo::cuda
