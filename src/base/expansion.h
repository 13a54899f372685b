// Dynamic range expansion of AdamW's moments (COAT, arXiv 2410.19313, section 4): before 128
// neighbours are cast to E4M3, a power stretches the range of their magnitudes to the one that
// E4M3 has. For every backend alike.
//
//     M, m = the largest |x| of a group, and the least that is not 0;   R = M / m,   c = sqrt(M m)
//     k = floor(16 log2(448^2 / 2) / log2 R) / 16, in [1/16, 16];   s = (M / c)^k / 448
//     code = e4m3(sign(x) (|x| / c)^k / s);   x = sign(code) (|code| s)^(1 / k) c
//
// M gets 448 and m at least 2.29 times the smallest code, so what is not 0 does not become 0. A
// group of zeros has s = 0, k = c = 1. An infinity or NaN makes NaNs of all of its group that is
// not 0.
//
// Logarithms and powers are written out, since those of libraries differ in their last bits; and
// with fma wherever a product meets a sum, so that no compiler may choose to round in between.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/block_scale.h"

namespace octavo {

inline constexpr std::int64_t kExpansionGroup = 128;  // elements in the order of memory

// What lies beside the codes of a group.
struct Expansion {
    float scale = 0;   // s
    float power = 1;   // k
    float centre = 1;  // c

    bool operator==(const Expansion&) const = default;
};

// log2 x in two parts, which keep a difference of two exact to 2^-24 however large they are.
struct Log2 {
    int whole = 0;
    float fraction = 0;  // in [-1/2, 1/2]
};

// x > 0. Off by less than 1.5e-7.
constexpr Log2 log2_of(float x) {
    constexpr std::int32_t kRootHalf = 0x3F3504F3;  // the bits of sqrt(1/2)
    const bool subnormal = x < 0x1p-126f;
    const std::int32_t bits = std::bit_cast<std::int32_t>(subnormal ? x * 0x1p24f : x);
    const std::int32_t e = (bits - kRootHalf) >> 23;
    const float f = std::bit_cast<float>(bits - (e << 23));  // in [sqrt(1/2), sqrt(2))
    // ln f = 2 (s + s^3 / 3 + s^5 / 5 + ...)
    const float s = (f - 1.0f) / (f + 1.0f), z = s * s;
    float tail = fmaf(z, 0.320598897f, 0.412198583f);
    tail = fmaf(z, tail, 0.577078016f);
    tail = fmaf(z, tail, 0.961796694f);
    return {e - (subnormal ? 24 : 0), fmaf(s * z, tail, s * 2.88539008f)};
}

constexpr float difference(const Log2& a, const Log2& b) {
    return static_cast<float>(a.whole - b.whole) + (a.fraction - b.fraction);
}

// x 2^(k l) for |k l| < 250. Off by less than 2.5e-7 of it.
constexpr float times_power(float x, float k, float l) {
    constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer, which are its low bits
    const float shifted = fmaf(k, l, kRound), n = shifted - kRound;
    const float r = fmaf(k, l, -n);  // in [-1/2, 1/2]
    float p = 1.52527338e-5f;        // 2^r = sum of (r ln 2)^i / i!
    p = fmaf(r, p, 1.54035304e-4f);
    p = fmaf(r, p, 1.33335581e-3f);
    p = fmaf(r, p, 9.61812911e-3f);
    p = fmaf(r, p, 5.55041087e-2f);
    p = fmaf(r, p, 2.40226507e-1f);
    p = fmaf(r, p, 6.93147181e-1f);
    p = fmaf(r, p, 1.0f);
    // In two steps: the power alone may not be a normal number.
    const int e = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
    return x * p * power_of_two(e >> 1) * power_of_two(e - (e >> 1));
}

// Magnitudes as bits, which order like them.
struct Magnitudes {
    std::uint32_t top = 0;              // the largest
    std::uint32_t bottom = 0xFFFFFFFF;  // the least that is not 0

    constexpr void add(const Magnitudes& other) {
        top = other.top > top ? other.top : top;
        bottom = other.bottom < bottom ? other.bottom : bottom;
    }
    constexpr void add(float x) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFF;
        add(Magnitudes{bits, bits == 0 ? 0xFFFFFFFF : bits});
    }
};

constexpr Expansion expansion_of(const Magnitudes& magnitudes) {
    constexpr float kRange = 16.6147098f;  // log2(448^2 / 2)
    if (magnitudes.top == 0) return {};
    const float top = std::bit_cast<float>(magnitudes.top);
    if (!is_finite_amax(top)) return {poisoned_scale(), 1.0f, poisoned_scale()};
    const float bottom = std::bit_cast<float>(magnitudes.bottom);
    const float centre = sqrtf(top) * sqrtf(bottom);
    const float range = difference(log2_of(top), log2_of(bottom));
    const int sixteenths =
        range * 16.0f <= kRange ? 256 : clamped(static_cast<int>(16.0f * kRange / range), 1, 256);
    const float power = static_cast<float>(sixteenths) * 0.0625f;
    const float up = difference(log2_of(top), log2_of(centre));
    return {times_power(1.0f, power, up) / 448.0f, power, centre};
}

// From a value to what its code is cast from.
class Expander {
  public:
    constexpr explicit Expander(const Expansion& e)
        : inv_scale_(1.0f / e.scale), power_(e.power), centre_(log2_of(e.centre)) {}

    constexpr float operator()(float x) const {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(x), sign = bits & 0x80000000u;
        if (bits == sign) return 0.0f;
        const Log2 l = log2_of(std::bit_cast<float>(bits ^ sign));
        const float y = times_power(inv_scale_, power_, difference(l, centre_));
        return std::bit_cast<float>(std::bit_cast<std::uint32_t>(y) | sign);
    }

  private:
    float inv_scale_, power_;
    Log2 centre_;
};

// From the value of a code to the element's.
class Contractor {
  public:
    constexpr explicit Contractor(const Expansion& e)
        : scale_(e.scale), inv_power_(1.0f / e.power), centre_(e.centre) {}

    constexpr float operator()(float code) const {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(code), sign = bits & 0x80000000u;
        if (bits == sign) return 0.0f;
        const Log2 l = log2_of(std::bit_cast<float>(bits ^ sign) * scale_);
        const float y = times_power(centre_, inv_power_, static_cast<float>(l.whole) + l.fraction);
        return std::bit_cast<float>(std::bit_cast<std::uint32_t>(y) | sign);
    }

  private:
    float scale_, inv_power_, centre_;
};

// n elements from the first of a group: their codes and the expansions of their groups, and back.
void expand(const float* x, std::int64_t n, void* codes, Expansion* groups);
void contract(const void* codes, const Expansion* groups, std::int64_t n, float* x);

}  // namespace octavo
