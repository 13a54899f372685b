// A matrix in tiles of 128 x 128, one per block of threads, of which each thread owns a square of 8
// x 8 elements. The rows of a square and its columns are packets of codes: a quantiser writes its
// codes and their transpose from the same registers.
#pragma once

#include "backends/cuda/scaling.cuh"

namespace octavo::cuda {

inline constexpr int kTile = 128;
// A warp's squares: 8 along a row, whose loads are 128 bytes of bf16, and 4 down, whose columns are
// 32 bytes of codes.
inline constexpr int kSquaresAcross = 8, kSquaresDown = kWarp / kSquaresAcross;
inline constexpr int kWarpsAcross = kTile / (kSquaresAcross * kPacket);
static_assert(kBlock == kTile * kTile / (kPacket * kPacket));

// Of an (m, n) matrix.
inline dim3 tiles_of(std::int64_t m, std::int64_t n) {
    return {static_cast<unsigned>(ceil_div(n, kTile)), static_cast<unsigned>(ceil_div(m, kTile))};
}

// The elements of a thread.
template <class T>
struct Square {
    float v[kPacket][kPacket];

    template <class C>
    __device__ void set(int row, const C (&x)[kPacket]) {
#pragma unroll
        for (int i = 0; i < kPacket; ++i) v[row][i] = static_cast<float>(x[i]);
    }
    __device__ float at(int row, int column) const { return v[row][column]; }

    // The largest magnitude of each row and each column, as the bits of an f32.
    __device__ void tops(std::uint32_t (&rows)[kPacket], std::uint32_t (&columns)[kPacket]) const {
#pragma unroll
        for (int i = 0; i < kPacket; ++i) rows[i] = columns[i] = 0;
#pragma unroll
        for (int r = 0; r < kPacket; ++r) {
#pragma unroll
            for (int c = 0; c < kPacket; ++c) {
                const std::uint32_t top = magnitude_bits(v[r][c]);
                rows[r] = max(rows[r], top);
                columns[c] = max(columns[c], top);
            }
        }
    }
    __device__ std::uint32_t top() const {
        std::uint32_t top = 0;
#pragma unroll
        for (int r = 0; r < kPacket; ++r) {
#pragma unroll
            for (float x : v[r]) top = max(top, magnitude_bits(x));
        }
        return top;
    }
};

// Two elements of 16 bits in a word, the left one in the low half. Magnitudes order like their
// bits.
template <class T>
struct Pair;

template <>
struct Pair<bf16> {
    // Exact: they were rounded to bf16.
    __device__ static std::uint32_t of(float left, float right) {
        return __byte_perm(__float_as_uint(left), __float_as_uint(right), 0x7632);
    }
    __device__ static float left(std::uint32_t pair) { return __uint_as_float(pair << 16); }
    __device__ static float right(std::uint32_t pair) {
        return __uint_as_float(pair & 0xFFFF0000u);
    }
};

template <>
struct Pair<f16> {
    __device__ static std::uint32_t of(float left, float right) {
        const __half2 pair = __floats2half2_rn(left, right);
        std::uint32_t bits;
        memcpy(&bits, &pair, sizeof(bits));
        return bits;
    }
    __device__ static float left(std::uint32_t pair) {
        return __half2float(__ushort_as_half(static_cast<unsigned short>(pair)));
    }
    __device__ static float right(std::uint32_t pair) {
        return __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16)));
    }
};

// Elements of 16 bits stay in pairs: half the registers, and maxima of two at once.
template <class T>
struct PairSquare {
    static constexpr int kPairs = kPacket / 2;
    std::uint32_t v[kPacket][kPairs];

    __device__ void set(int row, const float (&x)[kPacket]) {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) v[row][i] = Pair<T>::of(x[2 * i], x[2 * i + 1]);
    }
    __device__ float at(int row, int column) const {
        const std::uint32_t pair = v[row][column / 2];
        return column % 2 == 0 ? Pair<T>::left(pair) : Pair<T>::right(pair);
    }

    __device__ void tops(std::uint32_t (&rows)[kPacket], std::uint32_t (&columns)[kPacket]) const {
        std::uint32_t down[kPairs] = {};
#pragma unroll
        for (int r = 0; r < kPacket; ++r) {
            std::uint32_t across = 0;
#pragma unroll
            for (int i = 0; i < kPairs; ++i) {
                const std::uint32_t magnitudes = v[r][i] & kMagnitudes;
                across = __vmaxu2(across, magnitudes);
                down[i] = __vmaxu2(down[i], magnitudes);
            }
            rows[r] = max(left_bits(across), right_bits(across));
        }
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
            columns[2 * i] = left_bits(down[i]);
            columns[2 * i + 1] = right_bits(down[i]);
        }
    }
    __device__ std::uint32_t top() const {
        std::uint32_t tops = 0;
#pragma unroll
        for (int r = 0; r < kPacket; ++r) {
#pragma unroll
            for (const std::uint32_t pair : v[r]) tops = __vmaxu2(tops, pair & kMagnitudes);
        }
        return max(left_bits(tops), right_bits(tops));
    }

  private:
    static constexpr std::uint32_t kMagnitudes = 0x7FFF7FFFu;
    __device__ static std::uint32_t left_bits(std::uint32_t p) {
        return __float_as_uint(Pair<T>::left(p));
    }
    __device__ static std::uint32_t right_bits(std::uint32_t p) {
        return __float_as_uint(Pair<T>::right(p));
    }
};

template <>
struct Square<bf16> : PairSquare<bf16> {};
template <>
struct Square<f16> : PairSquare<f16> {};

// How many blocks of threads a multiprocessor holds, as far as registers go.
template <class T, class Source>
inline constexpr int kBlocks = sizeof(Square<T>) * Source::kResults <= 128 ? 3 : 2;

// Where a thread's square lies, in the tile and in the matrix (m, n).
struct Place {
    std::int64_t m, n;
    std::int64_t across, down;  // of the tile, in tiles
    int row, column;            // of the square, in the tile

    __device__ Place(std::int64_t rows, std::int64_t columns, std::int64_t tile_across,
                     std::int64_t tile_down)
        : m(rows), n(columns), across(tile_across), down(tile_down) {
        const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp;
        column = (warp % kWarpsAcross * kSquaresAcross + thread % kSquaresAcross) * kPacket;
        row = (warp / kWarpsAcross * kSquaresDown + thread % kWarp / kSquaresAcross) * kPacket;
    }
    __device__ std::int64_t row0() const { return down * kTile + row; }
    __device__ std::int64_t column0() const { return across * kTile + column; }
};

// Of the source's results. Elements outside the matrix count as zeros; a tile that lies inside has
// no branches, so that all of its loads are on their way at once.
template <class T, class Source>
__device__ void load_squares(const Source& source, const Place& at,
                             Square<T> (&squares)[Source::kResults]) {
    constexpr int kResults = Source::kResults;
    const bool packets = at.n % kPacket == 0;
    const bool inside = packets && (at.down + 1) * kTile <= at.m && (at.across + 1) * kTile <= at.n;
    const auto take = [&](int row) {
        compute_t<T> x[kResults][kPacket];
        source.get(At{at.row0() + row, at.column0(), at.n}, x);
#pragma unroll
        for (int r = 0; r < kResults; ++r) squares[r].set(row, x[r]);
    };
    if (inside) {
#pragma unroll
        for (int row = 0; row < kPacket; ++row) take(row);
        return;
    }
#pragma unroll
    for (int row = 0; row < kPacket; ++row) {
        if (packets && at.row0() + row < at.m && at.column0() < at.n) {
            take(row);
            continue;
        }
        float x[kResults][kPacket] = {};
#pragma unroll
        for (int i = 0; i < kPacket; ++i) {
            if (at.row0() + row >= at.m || at.column0() + i >= at.n) continue;
            compute_t<T> one[kResults][1];
            source.get(At{at.row0() + row, at.column0() + i, at.n}, one);
#pragma unroll
            for (int r = 0; r < kResults; ++r) x[r][i] = static_cast<float>(one[r][0]);
        }
#pragma unroll
        for (int r = 0; r < kResults; ++r) squares[r].set(row, x[r]);
    }
}

// ---- Values ------------------------------------------------------------------------------------

// z (m, n), the values themselves.
template <class T>
__device__ void write_values(const Square<T>& square, const Place& at, T* z) {
#pragma unroll
    for (int r = 0; r < kPacket; ++r) {
        if (at.row0() + r >= at.m) return;
        T* const line = z + (at.row0() + r) * at.n + at.column0();
        if (at.n % kPacket == 0) {
            if (at.column0() < at.n) {
                *reinterpret_cast<uint4*>(line) = {square.v[r][0], square.v[r][1], square.v[r][2],
                                                   square.v[r][3]};
            }
            continue;
        }
#pragma unroll
        for (int i = 0; i < kPacket; ++i) {
            if (at.column0() + i < at.n) line[i] = round_to<T>(square.at(r, i));
        }
    }
}

// ---- Codes -------------------------------------------------------------------------------------

// Eight codes of a line of `length` at `at`; aligned if lines are whole packets.
__device__ inline void write_codes(std::uint8_t* line, std::int64_t at, std::int64_t length,
                                   uint2 codes) {
    if (length % kPacket == 0) {
        if (at < length) *reinterpret_cast<uint2*>(line + at) = codes;
        return;
    }
#pragma unroll
    for (int i = 0; i < kPacket; ++i) {
        const std::uint32_t word = i < 4 ? codes.x : codes.y;
        if (at + i < length) line[at + i] = static_cast<std::uint8_t>(word >> (i % 4 * 8));
    }
}

// y (m, n): of row r of the square, scaled by scale(r), a function of an element.
template <class To, class T, class F>
__device__ void write_rows(const Square<T>& square, const Place& at, std::uint8_t* y,
                           const F& scale) {
#pragma unroll
    for (int r = 0; r < kPacket; ++r) {
        const auto scaled = scale(r);
        float x[kPacket];
#pragma unroll
        for (int c = 0; c < kPacket; ++c) x[c] = scaled(square.at(r, c));
        const uint2 codes = encode_packet<To>(x);
        if (at.row0() + r < at.m)
            write_codes(y + (at.row0() + r) * at.n, at.column0(), at.n, codes);
    }
}

// The transpose, y (n, m): of column c, scaled by scale(c).
template <class To, class T, class F>
__device__ void write_columns(const Square<T>& square, const Place& at, std::uint8_t* y,
                              const F& scale) {
#pragma unroll
    for (int c = 0; c < kPacket; ++c) {
        const auto scaled = scale(c);
        float x[kPacket];
#pragma unroll
        for (int r = 0; r < kPacket; ++r) x[r] = scaled(square.at(r, c));
        const uint2 codes = encode_packet<To>(x);
        if (at.column0() + c < at.n) {
            write_codes(y + (at.column0() + c) * at.m, at.row0(), at.m, codes);
        }
    }
}

// ---- Codes that are the same in both copies ----------------------------------------------------

// Turns 4 x 4 bytes around.
__device__ inline void transpose_4x4(std::uint32_t (&w)[4]) {
    const std::uint32_t a = __byte_perm(w[0], w[1], 0x5140), b = __byte_perm(w[2], w[3], 0x5140);
    const std::uint32_t c = __byte_perm(w[0], w[1], 0x7362), d = __byte_perm(w[2], w[3], 0x7362);
    w[0] = __byte_perm(a, b, 0x5410);
    w[1] = __byte_perm(a, b, 0x7632);
    w[2] = __byte_perm(c, d, 0x5410);
    w[3] = __byte_perm(c, d, 0x7632);
}

struct CodeSquare {
    std::uint32_t left[kPacket], right[kPacket];  // four codes of each row

    __device__ void set(int row, uint2 codes) {
        left[row] = codes.x;
        right[row] = codes.y;
    }
    __device__ uint2 row(int r) const { return {left[r], right[r]}; }
    __device__ CodeSquare transposed() const {
        CodeSquare t;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            std::uint32_t upper[4], lower[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                upper[i] = half == 0 ? left[i] : right[i];
                lower[i] = half == 0 ? left[i + 4] : right[i + 4];
            }
            transpose_4x4(upper);
            transpose_4x4(lower);
#pragma unroll
            for (int i = 0; i < 4; ++i) t.set(half * 4 + i, {upper[i], lower[i]});
        }
        return t;
    }
};

// The rows of a square into the lines [line0, line0 + 8) of y (lines, length), from element at0.
__device__ inline void write_lines(const CodeSquare& codes, std::uint8_t* y, std::int64_t line0,
                                   std::int64_t lines, std::int64_t at0, std::int64_t length) {
#pragma unroll
    for (int i = 0; i < kPacket; ++i) {
        if (line0 + i < lines) write_codes(y + (line0 + i) * length, at0, length, codes.row(i));
    }
}

// All elements times k: y (m, n) and its transpose (n, m), of which either may be null.
template <class To, class T>
__device__ void write_square(const Square<T>& square, const Place& at, std::uint8_t* y,
                             std::uint8_t* transposed, float k) {
    CodeSquare codes;
#pragma unroll
    for (int r = 0; r < kPacket; ++r) {
        float x[kPacket];
#pragma unroll
        for (int c = 0; c < kPacket; ++c) x[c] = square.at(r, c) * k;
        codes.set(r, encode_packet<To>(x));
    }
    if (y) write_lines(codes, y, at.row0(), at.m, at.column0(), at.n);
    if (transposed)
        write_lines(codes.transposed(), transposed, at.column0(), at.n, at.row0(), at.m);
}

}  // namespace octavo::cuda
