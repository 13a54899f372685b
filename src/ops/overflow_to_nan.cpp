// y = NaN where a cast of x 2^exponent to the 8-bit float `to` would have to saturate, x elsewhere:
// casts of y make NaNs of overflows, as those of JAX to E4M3 do.
//     x, y: same type, float
//
// What rounds to the largest value stays: E4M3 has no code for |x| > 464 (464 itself is a tie and
// becomes 448), E5M2 none for |x| >= 61440 (a tie whose even side is not there).
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const OverflowToNan& op, Operands in) {
    check(is_fp8(op.to), "overflow_to_nan: expected a cast to e4m3 or e5m2, got {}", name(op.to));
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

constexpr RulesFor<OverflowToNan> kOverflowToNan{.type = type, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const OverflowToNan&) { return kRules<kOverflowToNan>; }

}  // namespace octavo
