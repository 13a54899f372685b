// What a cast to 8 bits did to a tensor: the numbers of CastStats (base/cast_stats.h), in its
// order.
//     x any float, plain or under one scale; y (shape of x) its codes, e4m3 or e5m2, under scales
//     of any granularity or none -> CastStats (6) in f32
#include "base/cast_stats.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const MeasureCast&, Operands in) {
    in.expect_count(2);
    expect_float_or_scaled(in, 0);
    in.expect_shape(1, in[0].shape);
    check(is_fp8(in[1].dtype), "measure_cast: operand 1 must hold e4m3 or e5m2 codes, got {}",
          to_string(in[1]));
    return {{Dtype::f32, {kCastStats}}};
}

constexpr RulesFor<MeasureCast> kMeasureCast{.type = type};

}  // namespace

const Rules& rules(const MeasureCast&) { return kRules<kMeasureCast>; }

}  // namespace octavo
