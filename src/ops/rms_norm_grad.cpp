// Gradients of RmsNorm. With n = x * rstd and g = dy * w:
//     dx = rstd * (g - n * mean(g * n)) [+ acc],   dw = sum over rows of dy * n
//     x (..., C), w (C), rstd (rows), dy like x, perhaps acc like x -> dx like x, dw like w
//
// acc is what the residual stream's gradient has from elsewhere: added before dx is rounded.
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const RmsNormGrad&, Operands in) {
    in.expect_count(4, 5);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    in.expect_dtype(2, in[1].dtype);
    in.expect_shape(2, {in[0].shape.rows()});
    for (std::size_t i = 3; i < in.size(); ++i) in.expect_like(i, 0);
    return {in[0], in[1]};
}

// rstd, of x's data, is 2^a of the value's; sums over rows are in f32 and need no room.
ScaledValues scale(ScaleBuilder& s, const RmsNormGrad& op, const ScaledValues& in) {
    check(in.size() == 4, "rms_norm_grad: scales are propagated before gradients are joined");
    const Scaled dy = s.settled(in[3]);
    const Values out = s.b.emit(op, {in[0].data, in[1].data, in[2].data, dy.data});
    const int a = s.offset(in[0], "rms_norm_grad");
    return {{out[0], shifted(product(s, dy.scale, in[1].scale), -a)}, {out[1], dy.scale}};
}

constexpr RulesFor<RmsNormGrad> kRmsNormGrad{
    .type = type, .scale = scale, .in_place = {{{0, 4}, {0, 3}}}};

}  // namespace

const Rules& rules(const RmsNormGrad&) { return kRules<kRmsNormGrad>; }

}  // namespace octavo
