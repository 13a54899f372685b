// Powers of two that scales are made of, by their bits: plain code that also compiles for a GPU.
#pragma once

#include <bit>
#include <cstdint>

#include "base/scale_rule.h"

namespace octavo {

constexpr bool is_finite(float v) {
    return (std::bit_cast<std::int32_t>(v) & 0x7F800000) != 0x7F800000;
}

// The largest power of two up to |v|; 0 for 0 and subnormals, infinity for what is not finite.
constexpr float floor_power(float v) {
    return std::bit_cast<float>(std::bit_cast<std::int32_t>(v) & 0x7F800000);
}

// e of v = 2^e, a normal power of two.
constexpr int exponent_of(float v) { return (std::bit_cast<std::int32_t>(v) >> 23 & 0xFF) - 127; }

// v 2^e for such a v, kept within the normal numbers.
constexpr float scaled_power(float v, int e) {
    return power_of_two(clamped(exponent_of(v) + e, -126, 127));
}

}  // namespace octavo
