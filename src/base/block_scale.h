// Scales that follow from the tensor itself, one per row, block or group, with the arithmetic that
// blockwise and MOSS training share: from amax to scale to code. Plain code that also compiles for
// a GPU.
//
//     a' = max(amax, floor)
//     exact: scale = RN(a' / max)     pow2: the smallest power of two with max * scale >= a'
//     code = cast(RN(x * RN(1 / scale))),  value = RN(code * scale)
//
// TransformerEngine rounds the other factor, and has no floor (BlockRule::te): codes are cast from
// RN(x * r) with r = RN(max / amax), or the largest power of two up to it, neither infinite, and
// scale = RN(1 / r); both are 1 for a block of zeros.
//
// A micro group of amax a_i under a scale from a' (MOSS, arXiv 2511.05811, section 3.2; the
// exponent by integers): n = ceil(log2(a_i / a')) <= 0,  code = cast(RN(x 2^-n * RN(1 / scale))).
#pragma once

#include <bit>
#include <cstdint>

#include "base/scale_rule.h"

namespace octavo {

// What an infinity or a NaN makes of all it shares a scale with: everything computed from it is
// NaN, so the step that made it is skipped.
constexpr float poisoned_scale() { return std::bit_cast<float>(0x7FC00000); }

// An E8M0 byte: 2^(byte - 127).
constexpr int unit_exponent() { return 127; }

constexpr bool is_finite_amax(float amax) { return amax <= std::numeric_limits<float>::max(); }

// How the scales of blocks of a format, whose largest value is `max`, follow from their amaxes.
struct BlockScale {
    float max, floor;
    ScaleRounding rounding = ScaleRounding::exact;
    BlockRule rule = BlockRule::recip;

    // Both factors, not a number if amax is not finite.
    constexpr Scale operator()(float amax) const {
        if (!is_finite_amax(amax)) return {poisoned_scale(), poisoned_scale()};
        if (rule == BlockRule::te && amax == 0) return {};
        const float a = rule == BlockRule::recip && amax < floor ? floor : amax;
        if (rounding == ScaleRounding::pow2) {
            const int e = pow2_exponent_of(a, max, 0);
            return {power_of_two(-e), power_of_two(e)};
        }
        if (rule == BlockRule::recip) return {a / max, 1.0f / (a / max)};
        constexpr float kLargest = std::numeric_limits<float>::max();
        const float inverse = max / a;
        const float r = inverse > kLargest ? kLargest : inverse;
        return {1.0f / r, r};
    }
};

constexpr float block_scale(float amax, float max, float floor, ScaleRounding rounding) {
    return BlockScale{max, floor, rounding}(amax).scale;
}

// n + 127 for a group of amax `group` in a row (or tensor) of amax `whole`, both finite. A
// subnormal amax gets an exponent that is too large, never one that saturates.
constexpr int group_exponent(float group, float whole, float floor) {
    const std::int32_t g = std::bit_cast<std::int32_t>(group);
    const std::int32_t w = std::bit_cast<std::int32_t>(whole < floor ? floor : whole);
    const int n = (g >> 23) - (w >> 23) + ((g & 0x7FFFFF) > (w & 0x7FFFFF) ? 1 : 0);
    return unit_exponent() + clamped(n, -126, 0);
}

// 2^-n for such an exponent.
constexpr float group_inverse(int exponent) { return power_of_two(unit_exponent() - exponent); }

}  // namespace octavo
