// y = (x - mean) * rstd * w + b with rstd = 1 / sqrt(variance + eps), both over the last dimension.
//     x (..., C), w (C), b (C) of f32 (f64 for f64 x) -> y like x, mean, rstd (rows) in w's dtype
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const LayerNorm&, Operands in) {
    in.expect_count(3);
    in.expect_float(0);
    const Type statistic{accumulator(in[0].dtype), {in[0].shape.rows()}};
    for (std::size_t i : {1, 2}) {
        in.expect_dtype(i, statistic.dtype);
        in.expect_shape(i, {in[0].shape.last()});
    }
    return {in[0], statistic, statistic};
}

Values vjp(Builder& b, const LayerNorm&, const Values& in, const Values& out, const Values& dout) {
    return b.emit(LayerNormGrad{}, {in[0], in[1], out[1], out[2], dout[0]});
}

constexpr RulesFor<LayerNorm> kLayerNorm{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const LayerNorm&) { return kRules<kLayerNorm>; }

}  // namespace octavo
