// y = cast(x * k) under the scale s, with k = 1 / s rounded to f32 and the product in f32. The cast
// rounds to nearest even and saturates. Codes under a scale are decoded first, code * scale in f32.
//     x any float, plain or under one scale, s (1) f32 -> y (shape of x) in format `to` under s
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Quantise& op, Operands in) {
    in.expect_count(2);
    expect_float_or_scaled(in, 0);
    expect_scalar(in, 1, Dtype::f32);
    return {scaled_type("quantise", op.to, in[0].shape)};
}

constexpr RulesFor<Quantise> kQuantise{.type = type};

}  // namespace

const Rules& rules(const Quantise&) { return kRules<kQuantise>; }

}  // namespace octavo
