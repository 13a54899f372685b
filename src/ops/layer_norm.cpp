// y = (x - mean) * rstd * w + b with rstd = 1 / sqrt(variance + eps), both over the last dimension.
//     x (..., C), w (C), b (C) of f32 (f64 for f64 x) -> y like x, mean, rstd (rows) in w's dtype
//
// With `statistics` mean and rstd alone: whoever reads y makes it from those (Normalise).
#include <cmath>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const LayerNorm& op, Operands in) {
    in.expect_count(3);
    in.expect_float(0);
    const Type statistic{accumulator(in[0].dtype), {in[0].shape.rows()}};
    for (std::size_t i : {1, 2}) {
        in.expect_dtype(i, statistic.dtype);
        in.expect_shape(i, {in[0].shape.last()});
    }
    if (op.statistics) return {statistic, statistic};
    return {in[0], statistic, statistic};
}

Values decompose(Builder& b, const LayerNorm& op, const Values& in) {
    if (!op.statistics) return {};
    const Values out = b.emit(LayerNorm{op.eps}, in);
    return {out[1], out[2]};
}

Values vjp(Builder& b, const LayerNorm& op, const Values& in, const Values& out,
           const Values& dout) {
    check(!op.statistics, "layer_norm: differentiated before y is left out");
    return b.emit(LayerNormGrad{}, {in[0], in[1], out[1], out[2], dout[0]});
}

// As RmsNorm. Gain and shift are vectors of values, whose sum needs no common scale.
ScaledValues scale(ScaleBuilder& s, const LayerNorm& op, const ScaledValues& in) {
    const int a = s.offset(in[0], "layer_norm");
    check(in[1].scale == Exponent{} && in[2].scale == Exponent{},
          "layer_norm '{}': gain and shift must be values", s.b.label());
    const LayerNorm scaled{s.options.exact_eps ? std::ldexp(op.eps, -2 * a) : op.eps};
    const Values out = s.b.emit(scaled, {in[0].data, in[1].data, in[2].data});
    return {{out[0]}, {out[1], {.offset = a}}, {out[2], {.offset = -a}}};
}

constexpr RulesFor<LayerNorm> kLayerNorm{
    .type = type, .decompose = decompose, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const LayerNorm&) { return kRules<kLayerNorm>; }

}  // namespace octavo
