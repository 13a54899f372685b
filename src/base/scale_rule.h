// The arithmetic of scale.h, for every backend alike: plain code that also compiles for a GPU.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "base/scale.h"

namespace octavo {

// Scales and their inverses stay normal numbers.
inline constexpr int kMaxScaleExponent = 126;

// Master weights keep power-of-two scales, so that what a step does not change stays as it is.
// Exact ones move a little with the largest weight in every step: codes stay, being rounded to
// nearest, and all values follow the largest.
inline constexpr ScaleRounding kMasterRounding = ScaleRounding::pow2;

// By value: std::clamp would take the address of a constant, which a GPU does not have.
template <class T>
constexpr T clamped(T x, T low, T high) {
    return x < low ? low : x > high ? high : x;
}

// 2^e for a normal result.
constexpr float power_of_two(int e) { return std::bit_cast<float>((e + 127) << 23); }

// pow2_exponent for a format with this largest value; amax is normal and positive.
constexpr int pow2_exponent_of(float amax, float max, int margin) {
    const std::int32_t top = std::bit_cast<std::int32_t>(max);
    const std::int32_t bits = std::bit_cast<std::int32_t>(amax);
    const int over = (bits & 0x7FFFFF) > (top & 0x7FFFFF) ? 1 : 0;
    const int e = (top >> 23) - (bits >> 23) - over - margin;
    return clamped(e, -kMaxScaleExponent, kMaxScaleExponent);
}

// What Smooth-SwiGLU divides numbers of this amax by (arXiv 2409.12517): a bound on them, at least
// 2^-24, a power of two or the amax itself. NaN for an amax that is not finite, which makes NaNs of
// all that is divided: the step is skipped.
constexpr float smooth_factor(float amax, ScaleRounding rounding) {
    if (!(amax <= std::numeric_limits<float>::max())) return std::bit_cast<float>(0x7FC00000);
    const float a = amax < 0x1p-24f ? 0x1p-24f : amax;
    if (rounding == ScaleRounding::exact) return a;
    const std::int32_t bits = std::bit_cast<std::int32_t>(a);
    const int e = (bits >> 23) - 127 + ((bits & 0x7FFFFF) != 0 ? 1 : 0);
    return power_of_two(clamped(e, -24, kMaxScaleExponent));
}

// The scale that next_scale gives for a format with this largest value; |margin| <= 126.
constexpr float scale_of_amax(float amax, float max, ScaleRounding rounding, int margin,
                              float old) {
    const bool usable = amax >= std::numeric_limits<float>::min() &&
                        amax <= std::numeric_limits<float>::max();  // false for NaN
    if (!usable) return old;
    if (rounding == ScaleRounding::pow2) return power_of_two(-pow2_exponent_of(amax, max, margin));
    return clamped(amax / max * power_of_two(margin), power_of_two(-kMaxScaleExponent),
                   power_of_two(kMaxScaleExponent));
}

}  // namespace octavo
