// y = x / rms(x) * w with rms(x) = sqrt(mean(x^2) + eps) over the last dimension.
//     x (..., C), w (C) of f32 (f64 for f64 x) -> y like x, rstd = 1 / rms(x) (rows) in w's dtype
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const RmsNorm&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    return {in[0], {in[1].dtype, {in[0].shape.rows()}}};
}

Values vjp(Builder& b, const RmsNorm&, const Values& in, const Values& out, const Values& dout) {
    return b.emit(RmsNormGrad{}, {in[0], in[1], out[1], dout[0]});
}

constexpr RulesFor<RmsNorm> kRmsNorm{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const RmsNorm&) { return kRules<kRmsNorm>; }

}  // namespace octavo
