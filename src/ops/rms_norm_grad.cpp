// Gradients of RmsNorm. With n = x * rstd and g = dy * w:
//     dx = rstd * (g - n * mean(g * n)) [+ acc],   dw = sum over rows of dy * n
//     x (..., C), w (C), rstd (rows), dy like x, perhaps acc like x -> dx like x, dw like w
//
// acc is what the residual stream's gradient has from elsewhere: added before dx is rounded.
#include "graph/builder.h"

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

constexpr RulesFor<RmsNormGrad> kRmsNormGrad{.type = type, .in_place = {{{0, 4}, {0, 3}}}};

}  // namespace

const Rules& rules(const RmsNormGrad&) { return kRules<kRmsNormGrad>; }

}  // namespace octavo
