// Gradients of RmsNorm. With n = x * rstd and g = dy * w:
//     dx = rstd * (g - n * mean(g * n)) [+ acc],   dw = sum over rows of dy * n
//     x (..., C), w (C), rstd (rows), dy like x, perhaps acc like x -> dx like x, dw like w
//     x, w, rstd, dy, scale (1) f32 -> dx, dw, size (1) f32: with `measure`
//
// acc is what the residual stream's gradient has from elsewhere: added before dx is rounded.
// size is what DynamicRescale finds for dx and scale.
#include "graph/scaled.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const RmsNormGrad& op, Operands in) {
    in.expect_count(op.measure ? 5 : 4, 5);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    in.expect_dtype(2, in[1].dtype);
    in.expect_shape(2, {in[0].shape.rows()});
    in.expect_like(3, 0);
    if (op.measure) {
        // One element of dx could take the place of the scale.
        check(in[0].shape.elements() != 1, "rms_norm_grad: there is nothing to measure");
        expect_scalar(in, 4, Dtype::f32);
        return {in[0], in[1], in[4]};
    }
    if (in.size() == 5) in.expect_like(4, 0);
    return {in[0], in[1]};
}

Values decompose(Builder& b, const RmsNormGrad& op, const Values& in) {
    if (!op.measure) return {};
    Values out = b.emit(RmsNormGrad{}, {in[0], in[1], in[2], in[3]});
    out.push_back(b.one(*op.measure, {out[0], in[4]}));
    return out;
}

// rstd, of x's data, is 2^a of the value's; sums over rows are in f32 and need no room.
ScaledValues scale(ScaleBuilder& s, const RmsNormGrad& op, const ScaledValues& in) {
    check(in.size() == 4 && !op.measure,
          "rms_norm_grad: scales are propagated before gradients are joined");
    const Scaled dy = s.settled(in[3]);
    const Values out = s.b.emit(op, {in[0].data, in[1].data, in[2].data, dy.data});
    const int a = s.offset(in[0], "rms_norm_grad");
    return {{out[0], shifted(product(s, dy.scale, in[1].scale), -a)}, {out[1], dy.scale}};
}

constexpr RulesFor<RmsNormGrad> kRmsNormGrad{
    .type = type, .decompose = decompose, .scale = scale, .in_place = {{{0, 4}, {0, 3}}}};

}  // namespace

const Rules& rules(const RmsNormGrad&) { return kRules<kRmsNormGrad>; }

}  // namespace octavo
