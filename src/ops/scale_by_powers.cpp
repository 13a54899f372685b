// A scale times powers of two, each for itself: y_i = x 2^exponents[i].
//     x (1) f32 -> y_i (1) f32
//
// Exact where y_i is a normal number of f32.
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const ScaleByPowers& op, Operands in) {
    in.expect_count(1);
    expect_scalar(in, 0, Dtype::f32);
    return Types(op.exponents.size(), in[0]);
}

constexpr RulesFor<ScaleByPowers> kScaleByPowers{.type = type};

}  // namespace

const Rules& rules(const ScaleByPowers&) { return kRules<kScaleByPowers>; }

}  // namespace octavo
