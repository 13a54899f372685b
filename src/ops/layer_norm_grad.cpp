// Gradients of LayerNorm. With n = (x - mean) * rstd and g = dy * w:
//     dx = rstd * (g - mean(g) - n * mean(g * n)) [+ acc],   dw = sum over rows of dy * n,
//     db = sum over rows of dy
//     x (..., C), w (C), mean, rstd (rows), dy like x, perhaps acc like x -> dx like x, dw, db like
//     w
//
// acc is what the residual stream's gradient has from elsewhere: added before dx is rounded.
#include "graph/builder.h"

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

constexpr RulesFor<LayerNormGrad> kLayerNormGrad{.type = type,
                                                 .in_place = {{{0, 5}, {0, 4}, {0, 0}}}};

}  // namespace

const Rules& rules(const LayerNormGrad&) { return kRules<kLayerNormGrad>; }

}  // namespace octavo
