// y of a norm once more, from its operands and the statistics that it gave: the same bits.
//     RmsNorm:   x (..., C), w (C), rstd (rows)             -> y = x * rstd * w, like x
//     LayerNorm: x (..., C), w (C), b (C), mean, rstd (rows) -> y = (x - mean) * rstd * w + b
//     w, b and statistics of f32 (f64 for f64 x)
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Normalise&, Operands in) {
    check(in.size() == 3 || in.size() == 5,
          "normalise: expected 3 operands (of rms_norm) or 5 (of layer_norm), got {}", in.size());
    in.expect_float(0);
    const std::size_t vectors = in.size() / 2;  // w, b; the statistics follow
    for (std::size_t i = 1; i < in.size(); ++i) {
        const Shape& x = in[0].shape;
        in.expect_dtype(i, accumulator(in[0].dtype));
        in.expect_shape(i, {i <= vectors ? x.last() : x.rows()});
    }
    return {in[0]};
}

constexpr RulesFor<Normalise> kNormalise{.type = type, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Normalise&) { return kRules<kNormalise>; }

}  // namespace octavo
