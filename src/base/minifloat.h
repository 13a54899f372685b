// The rounding rule of every format that is narrower than f32 in exponent and mantissa (f16, E4M3,
// E5M2): round to nearest, ties to even, saturating, subnormals produced and consumed.
//
// Both functions are straight-line code on the f32 bits (comparisons become blends), so loops over
// them vectorise with whatever the compiler is allowed to use. Neither meets an f32 subnormal on
// the way, which some processors handle a hundred times slower and others flush.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace octavo {

struct Minifloat {
    int exponent_bits;
    int mantissa_bits;
    std::int32_t max_code;       // of the largest finite value
    std::int32_t first_special;  // magnitude codes from here on are inf or NaN
    std::int32_t nan_code;       // the NaN that casts produce
};

// Magnitude codes are compared as signed integers throughout: AVX2 has no unsigned comparison.
// T is the type with the format as T::kFormat.
template <class T>
constexpr float decode_minifloat(std::int32_t code) {
    constexpr Minifloat F = T::kFormat;
    constexpr int kShift = 23 - F.mantissa_bits;
    constexpr int kSignBit = F.exponent_bits + F.mantissa_bits;
    constexpr int kRebias = 127 - ((1 << (F.exponent_bits - 1)) - 1);
    // The binade of the smallest normal value, whose quantum the subnormals share.
    constexpr float kMinNormal = std::bit_cast<float>((kRebias + 1) << 23);

    const std::int32_t magnitude = code & ((1 << kSignBit) - 1);
    const std::int32_t shifted = magnitude << kShift;
    // An all-ones exponent turns S.1111.111 of E4M3 into NaN, and inf and NaN of the IEEE-like
    // formats into themselves.
    const std::int32_t special = magnitude >= F.first_special ? 0x7F800000 : 0;
    const std::int32_t normal = (shifted + (kRebias << 23)) | special;
    // 2^emin * (1 + f) - 2^emin, exact.
    const std::int32_t subnormal = std::bit_cast<std::int32_t>(
        std::bit_cast<float>(shifted + ((kRebias + 1) << 23)) - kMinNormal);
    const std::int32_t bits = magnitude < (1 << F.mantissa_bits) ? subnormal : normal;
    const std::uint32_t sign = static_cast<std::uint32_t>(code >> kSignBit & 1) << 31;
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) | sign);
}

template <class T>
constexpr std::int32_t encode_minifloat(float value) {
    constexpr Minifloat F = T::kFormat;
    constexpr int kShift = 23 - F.mantissa_bits;
    constexpr int kSignBit = F.exponent_bits + F.mantissa_bits;
    constexpr int kRebias = 127 - ((1 << (F.exponent_bits - 1)) - 1);
    constexpr std::int32_t kMax = std::bit_cast<std::int32_t>(decode_minifloat<T>(F.max_code));
    constexpr std::int32_t kMinNormal = (kRebias + 1) << 23;
    // 2^23 quanta of the subnormals: a sum with it is rounded to a whole number of quanta by the
    // FPU, and holds that number in its low bits.
    constexpr float kMagic = std::bit_cast<float>((kRebias + 1 + kShift) << 23);

    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::int32_t unclamped = static_cast<std::int32_t>(bits & 0x7FFFFFFF);
    const std::int32_t magnitude = std::min(unclamped, kMax);
    const std::int32_t odd = magnitude >> kShift & 1;
    const std::int32_t normal =
        (magnitude - (kRebias << 23) + ((1 << (kShift - 1)) - 1) + odd) >> kShift;
    const std::int32_t subnormal =
        std::bit_cast<std::int32_t>(std::bit_cast<float>(magnitude) + kMagic) -
        std::bit_cast<std::int32_t>(kMagic);
    const std::int32_t finite = magnitude < kMinNormal ? subnormal : normal;
    const std::int32_t sign = static_cast<std::int32_t>(bits >> 31) << kSignBit;
    return unclamped > 0x7F800000 ? F.nan_code : finite | sign;
}

}  // namespace octavo
