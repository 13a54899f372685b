#include "base/scale.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/error.h"

namespace octavo {
namespace {

constexpr int kMaxExponent = 126;

constexpr int exponent(std::int32_t bits) { return (bits >> 23) - 127; }
constexpr std::int32_t significand(std::int32_t bits) { return bits & 0x7FFFFF; }

void check_format(Dtype dtype) {
    check(is_fp8(dtype) || dtype == Dtype::f16,
          "scale: expected a scaled dtype (e4m3, e5m2 or f16), got {}", name(dtype));
}

}  // namespace

int pow2_exponent(float amax, Dtype dtype, int margin) {
    check_format(dtype);
    const std::int32_t top = std::bit_cast<std::int32_t>(max_value(dtype));
    const std::int32_t bits = std::bit_cast<std::int32_t>(amax);
    const int over = significand(bits) > significand(top) ? 1 : 0;
    return std::clamp(exponent(top) - exponent(bits) - over - margin, -kMaxExponent, kMaxExponent);
}

Scale next_scale(float amax, Dtype dtype, ScaleRounding rounding, int margin, Scale old) {
    check_format(dtype);
    const bool usable = amax >= std::numeric_limits<float>::min() &&
                        amax <= std::numeric_limits<float>::max();  // false for NaN
    if (!usable) return old;
    if (rounding == ScaleRounding::pow2) {
        const int e = pow2_exponent(amax, dtype, margin);
        return {std::ldexp(1.0f, -e), std::ldexp(1.0f, e)};
    }
    const float scale =
        std::clamp(std::ldexp(amax / max_value(dtype), margin), 0x1p-126f, 0x1p126f);
    return {scale, 1.0f / scale};
}

}  // namespace octavo
