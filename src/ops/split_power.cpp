// The power of two in a product of two numbers, taken out of the second:
//     s = the largest power of two up to |x y|,   y' = y / s,   so that 1 <= |x y'| < 2
//     x, y (1) f32 -> y' (1), s (1) f32
//
// s = 1 where x y is 0, subnormal or not finite.
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const SplitPower&, Operands in) {
    in.expect_count(2);
    expect_scalar(in, 0, Dtype::f32);
    expect_scalar(in, 1, Dtype::f32);
    return {in[1], in[1]};
}

constexpr RulesFor<SplitPower> kSplitPower{.type = type};

}  // namespace

const Rules& rules(const SplitPower&) { return kRules<kSplitPower>; }

}  // namespace octavo
