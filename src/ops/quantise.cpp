// y = cast(x * k) under the scale s, with k = 1 / s rounded to f32 and the product in f32. The cast
// rounds to nearest even and saturates.
//     x any float without scales, s (1) f32 -> y (shape of x) in format `to` under the scale s
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Quantise& op, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    expect_scalar(in, 1, Dtype::f32);
    return {scaled_type("quantise", op.to, in[0].shape)};
}

constexpr RulesFor<Quantise> kQuantise{.type = type};

}  // namespace

const Rules& rules(const Quantise&) { return kRules<kQuantise>; }

}  // namespace octavo
