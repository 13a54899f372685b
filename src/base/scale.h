// From an amax to the scale of a quantised tensor. value = code * scale; inv_scale is the
// multiplier used when casting, code = cast(value * inv_scale).
#pragma once

#include "base/dtype.h"

namespace octavo {

enum class ScaleRounding {
    pow2,   // inv_scale = 2^e: scaling is exact, amax * inv_scale lands in (max/2, max]
    exact,  // scale = amax / max: the maximum meets the top code, at the price of rounded products
};

// Which of the two factors of a block, 1 / scale and scale, is rounded from its amax.
enum class BlockRule {
    recip,  // scale = RN(amax / max), inv_scale = RN(1 / scale)
    te,     // inv_scale = RN(max / amax), scale = RN(1 / inv_scale), as TransformerEngine has it
};

struct Scale {
    float scale = 1.0f;
    float inv_scale = 1.0f;
    bool operator==(const Scale&) const = default;
};

// The largest e with amax * 2^e <= max_value(dtype), less `margin`, clamped to [-126, 126] so that
// 2^e and 2^-e are both normal. Taken from the bits: an f32 log2 is one too large just above a
// power of two times the significand of the maximum. `amax` must be a normal positive number;
// `dtype` is e4m3, e5m2 or f16 (Error otherwise).
int pow2_exponent(float amax, Dtype dtype, int margin = 0);

// The scale for a tensor with this amax. Keeps `old` if amax is no basis for one: zero, below
// 2^-126, infinite or NaN. `margin` leaves that many binades of head room above amax.
Scale next_scale(float amax, Dtype dtype, ScaleRounding rounding, int margin, Scale old);

}  // namespace octavo
