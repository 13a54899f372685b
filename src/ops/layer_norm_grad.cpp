// Gradients of LayerNorm. With n = (x - mean) * rstd and g = dy * w:
//     dx = rstd * (g - mean(g) - n * mean(g * n)) [+ acc],   dw = sum over rows of dy * n,
//     db = sum over rows of dy
//     x (..., C), w (C), mean, rstd (rows), dy like x, perhaps acc like x -> dx like x, dw, db like
//     w
//
// acc is what the residual stream's gradient has from elsewhere: added before dx is rounded.
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const LayerNormGrad&, Operands in) {
    in.expect_count(5, 6);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    for (std::size_t i : {2, 3}) {
        in.expect_dtype(i, in[1].dtype);
        in.expect_shape(i, {in[0].shape.rows()});
    }
    for (std::size_t i = 4; i < in.size(); ++i) in.expect_like(i, 0);
    return {in[0], in[1], in[1]};
}

// As RmsNormGrad.
ScaledValues scale(ScaleBuilder& s, const LayerNormGrad& op, const ScaledValues& in) {
    check(in.size() == 5, "layer_norm_grad: scales are propagated before gradients are joined");
    const Scaled dy = s.settled(in[4]);
    const Values out = s.b.emit(op, {in[0].data, in[1].data, in[2].data, in[3].data, dy.data});
    const int a = s.offset(in[0], "layer_norm_grad");
    return {{out[0], shifted(dy.scale, -a)}, {out[1], dy.scale}, {out[2], dy.scale}};
}

constexpr RulesFor<LayerNormGrad> kLayerNormGrad{
    .type = type, .scale = scale, .in_place = {{{0, 5}, {0, 4}, {0, 0}}}};

}  // namespace

const Rules& rules(const LayerNormGrad&) { return kRules<kLayerNormGrad>; }

}  // namespace octavo
