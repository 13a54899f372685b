// Gradients of LayerNorm. With n = (x - mean) * rstd and g = dy * w:
//     dx = rstd * (g - mean(g) - n * mean(g * n)) [+ acc],   dw = sum over rows of dy * n,
//     db = sum over rows of dy
//     x (..., C), w (C), mean, rstd (rows), dy like x, perhaps acc like x
//         -> dx like x, dw, db like w
//     x, w, mean, rstd, dy, scale (1) f32 -> dx, dw, db, size (1) f32: with `measure`
//
// acc and size are as in RmsNormGrad.
#include "graph/scaled.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const LayerNormGrad& op, Operands in) {
    in.expect_count(op.measure ? 6 : 5, 6);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    for (std::size_t i : {2, 3}) {
        in.expect_dtype(i, in[1].dtype);
        in.expect_shape(i, {in[0].shape.rows()});
    }
    in.expect_like(4, 0);
    if (op.measure) {
        // One element of dx could take the place of the scale.
        check(in[0].shape.elements() != 1, "layer_norm_grad: there is nothing to measure");
        expect_scalar(in, 5, Dtype::f32);
        return {in[0], in[1], in[1], in[5]};
    }
    if (in.size() == 6) in.expect_like(5, 0);
    return {in[0], in[1], in[1]};
}

Values decompose(Builder& b, const LayerNormGrad& op, const Values& in) {
    if (!op.measure) return {};
    Values out = b.emit(LayerNormGrad{}, {in[0], in[1], in[2], in[3], in[4]});
    out.push_back(b.one(*op.measure, {out[0], in[5]}));
    return out;
}

// As RmsNormGrad.
ScaledValues scale(ScaleBuilder& s, const LayerNormGrad& op, const ScaledValues& in) {
    check(in.size() == 5 && !op.measure,
          "layer_norm_grad: scales are propagated before gradients are joined");
    const Scaled dy = s.settled(in[4]);
    const Values out = s.b.emit(op, {in[0].data, in[1].data, in[2].data, in[3].data, dy.data});
    const int a = s.offset(in[0], "layer_norm_grad");
    return {{out[0], shifted(dy.scale, -a)}, {out[1], dy.scale}, {out[2], dy.scale}};
}

constexpr RulesFor<LayerNormGrad> kLayerNormGrad{
    .type = type, .decompose = decompose, .scale = scale, .in_place = {{{0, 5}, {0, 4}, {0, 0}}}};

}  // namespace

const Rules& rules(const LayerNormGrad&) { return kRules<kLayerNormGrad>; }

}  // namespace octavo
