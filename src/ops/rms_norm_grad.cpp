// Gradients of RmsNorm. With n = x * rstd and g = dy * w:
//     dx = rstd * (g - n * mean(g * n)),   dw = sum over rows of dy * n
//     x (..., C), w (C), rstd (rows), dy like x -> dx like x, dw like w
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const RmsNormGrad&, Operands in) {
    in.expect_count(4);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    in.expect_dtype(2, in[1].dtype);
    in.expect_shape(2, {in[0].shape.rows()});
    in.expect_like(3, 0);
    return {in[0], in[1]};
}

constexpr RulesFor<RmsNormGrad> kRmsNormGrad{.type = type, .in_place = {{{0, 3}}}};

}  // namespace

const Rules& rules(const RmsNormGrad&) { return kRules<kRmsNormGrad>; }

}  // namespace octavo
