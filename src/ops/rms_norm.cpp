// y = x / rms(x) * w with rms(x) = sqrt(mean(x^2) + eps) over the last dimension.
//     x (..., C), w (C) of f32 (f64 for f64 x) -> y like x, rstd = 1 / rms(x) (rows) in w's dtype
//
// With `statistics` rstd alone: whoever reads y makes it from that (Normalise).
#include <cmath>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const RmsNorm& op, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    const Type rstd{in[1].dtype, {in[0].shape.rows()}};
    if (op.statistics) return {rstd};
    return {in[0], rstd};
}

Values decompose(Builder& b, const RmsNorm& op, const Values& in) {
    if (!op.statistics) return {};
    return {b.emit(RmsNorm{op.eps}, in)[1]};
}

Values vjp(Builder& b, const RmsNorm& op, const Values& in, const Values& out, const Values& dout) {
    check(!op.statistics, "rms_norm: differentiated before y is left out");
    return b.emit(RmsNormGrad{}, {in[0], in[1], out[1], dout[0]});
}

// The scale of x cancels; eps is added to 4^-a of the mean square.
ScaledValues scale(ScaleBuilder& s, const RmsNorm& op, const ScaledValues& in) {
    const int a = s.offset(in[0], "rms_norm");
    const RmsNorm scaled{s.options.exact_eps ? std::ldexp(op.eps, -2 * a) : op.eps};
    const Values out = s.b.emit(scaled, {in[0].data, in[1].data});
    return {{out[0], in[1].scale}, {out[1], {.offset = -a}}};
}

constexpr RulesFor<RmsNorm> kRmsNorm{
    .type = type, .decompose = decompose, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const RmsNorm&) { return kRules<kRmsNorm>; }

}  // namespace octavo
