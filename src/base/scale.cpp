#include "base/scale.h"

#include <cstdlib>

#include "base/error.h"
#include "base/scale_rule.h"

namespace octavo {
namespace {

void check_format(Dtype dtype) {
    check(is_fp8(dtype) || dtype == Dtype::f16,
          "scale: expected a scaled dtype (e4m3, e5m2 or f16), got {}", name(dtype));
}

}  // namespace

int pow2_exponent(float amax, Dtype dtype, int margin) {
    check_format(dtype);
    return pow2_exponent_of(amax, max_value(dtype), margin);
}

Scale next_scale(float amax, Dtype dtype, ScaleRounding rounding, int margin, Scale old) {
    check_format(dtype);
    check(std::abs(margin) <= kMaxScaleExponent, "scale: expected a margin of at most {}, got {}",
          kMaxScaleExponent, margin);
    const float scale = scale_of_amax(amax, max_value(dtype), rounding, margin, old.scale);
    return scale == old.scale ? old : Scale{scale, 1.0f / scale};
}

}  // namespace octavo
