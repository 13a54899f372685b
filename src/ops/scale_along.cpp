// y = x * s [+ acc], or x / s with `inverse`, where s has a factor for each row of x (all
// dimensions but the last) or for each column (the last dimension).
//     x any float without scales, s (rows) or (columns) in f32 (f64 for f64 x), perhaps acc like x
//         -> y like x
//
// Factors are constants: no gradient flows to s. Powers of two change no significand. `inverse`
// multiplies by 1 / s. acc is added before y is rounded.
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const ScaleAlong& op, Operands in) {
    in.expect_count(2, 3);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    const Shape& x = in[0].shape;
    in.expect_shape(1, {op.axis == Axis::row ? x.rows() : x.last()});
    if (in.size() == 3) in.expect_like(2, 0);
    return {in[0]};
}

Values vjp(Builder& b, const ScaleAlong& op, const Values& in, const Values&, const Values& dout) {
    check(in.size() == 2, "scale_along: differentiated before sums are joined");
    return {b.one(op, {dout[0], in[1]}), Value{}};
}

constexpr RulesFor<ScaleAlong> kScaleAlong{
    .type = type, .vjp = vjp, .in_place = {{{0, 2}, {0, 0}}}};

}  // namespace

const Rules& rules(const ScaleAlong&) { return kRules<kScaleAlong>; }

}  // namespace octavo
