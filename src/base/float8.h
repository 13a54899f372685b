// The 8-bit floats: E4M3 and E5M2 (OCP OFP8 1.0) and the scale format E8M0 (OCP MX 1.0).
//
// Casts to E4M3 and E5M2 round to nearest, ties to even, and saturate to the largest finite value,
// infinities too. NaN becomes 0x7F whatever its sign. -0 is kept.
#pragma once

#include <bit>
#include <cstdint>

#include "base/error.h"
#include "base/minifloat.h"

namespace octavo {

// Largest value 448, smallest normal 2^-6, smallest 2^-9. No infinity; S.1111.111 is NaN.
struct e4m3 {
    static constexpr Minifloat kFormat = {4, 3, 0x7E, 0x7F, 0x7F};

    std::uint8_t bits = 0;

    constexpr e4m3() = default;
    constexpr explicit e4m3(float value)
        : bits(static_cast<std::uint8_t>(encode_minifloat<e4m3>(value))) {}
    constexpr explicit operator float() const { return decode_minifloat<e4m3>(bits); }
    static constexpr e4m3 from_bits(std::uint8_t code) {
        e4m3 x;
        x.bits = code;
        return x;
    }
    constexpr bool operator==(const e4m3&) const = default;  // compares codes: -0 != +0
};

// Largest value 57344, smallest normal 2^-14, smallest 2^-16. Infinity is 0x7C (read, never made by
// a cast).
struct e5m2 {
    static constexpr Minifloat kFormat = {5, 2, 0x7B, 0x7C, 0x7F};

    std::uint8_t bits = 0;

    constexpr e5m2() = default;
    constexpr explicit e5m2(float value)
        : bits(static_cast<std::uint8_t>(encode_minifloat<e5m2>(value))) {}
    constexpr explicit operator float() const { return decode_minifloat<e5m2>(bits); }
    static constexpr e5m2 from_bits(std::uint8_t code) {
        e5m2 x;
        x.bits = code;
        return x;
    }
    constexpr bool operator==(const e5m2&) const = default;  // compares codes: -0 != +0
};

// A power of two, 2^(bits - 127); 0xFF is NaN. There is no zero and no sign.
struct e8m0 {
    std::uint8_t bits = 0;

    constexpr e8m0() = default;
    constexpr explicit operator float() const {
        const std::uint32_t b = bits == 0 ? 0x400000u : std::uint32_t{bits} << 23;  // 2^-127
        return std::bit_cast<float>(bits == 0xFF ? 0x7FC00000u : b);
    }
    static constexpr e8m0 from_bits(std::uint8_t code) {
        e8m0 x;
        x.bits = code;
        return x;
    }

    // The smallest power of two >= value. Zero gives 2^-127, values above 2^127 and infinity give
    // 2^127, NaN and negative values give NaN.
    static constexpr e8m0 round_up(float value) {
        if (!(value >= 0.0f)) return from_bits(0xFF);
        const std::uint32_t b = std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFF;
        if (b <= 0x400000) return from_bits(0);
        const std::uint32_t code = (b + 0x7FFFFF) >> 23;
        return from_bits(static_cast<std::uint8_t>(code < 0xFE ? code : 0xFE));
    }

    // `value` must be a power of two in [2^-127, 2^127], else throws Error.
    static constexpr e8m0 exact(float value) {
        const e8m0 x = round_up(value);
        if (static_cast<float>(x) != value) {
            fail("e8m0: expected a power of two from 2^-127 to 2^127, got {}", value);
        }
        return x;
    }
    constexpr bool operator==(const e8m0&) const = default;
};

}  // namespace octavo
