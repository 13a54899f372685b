// The 16-bit floats. Casts from f32 round to nearest, ties to even.
#pragma once

#include <bit>
#include <cstdint>

#include "base/minifloat.h"

namespace octavo {

// The upper half of an f32. Overflow gives infinity, as IEEE 754 rounding does; a NaN keeps its
// sign and upper payload and becomes quiet.
struct bf16 {
    std::uint16_t bits = 0;

    constexpr bf16() = default;
    constexpr explicit bf16(float value) {
        const std::uint32_t b = std::bit_cast<std::uint32_t>(value);
        const bool nan = static_cast<std::int32_t>(b & 0x7FFFFFFF) > 0x7F800000;
        const std::uint32_t rounded = b + 0x7FFF + (b >> 16 & 1);
        bits = static_cast<std::uint16_t>((nan ? b | 0x400000 : rounded) >> 16);
    }
    constexpr explicit operator float() const {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
    static constexpr bf16 from_bits(std::uint16_t code) {
        bf16 x;
        x.bits = code;
        return x;
    }
    constexpr bool operator==(const bf16&) const = default;  // compares codes: -0 != +0
};

// IEEE 754 binary16. Casts saturate to +-65504, infinities too; NaN becomes 0x7E00.
struct f16 {
    static constexpr Minifloat kFormat = {5, 10, 0x7BFF, 0x7C00, 0x7E00};

    std::uint16_t bits = 0;

    constexpr f16() = default;
    constexpr explicit f16(float value)
        : bits(static_cast<std::uint16_t>(encode_minifloat<f16>(value))) {}
    constexpr explicit operator float() const { return decode_minifloat<f16>(bits); }
    static constexpr f16 from_bits(std::uint16_t code) {
        f16 x;
        x.bits = code;
        return x;
    }
    constexpr bool operator==(const f16&) const = default;  // compares codes: -0 != +0
};

}  // namespace octavo
