// y = x + b, the same b for each row.     x (..., N), b (N) of f32 (f64 for f64 x), y like x
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const BiasAdd&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    return {in[0]};
}

Values vjp(Builder& b, const BiasAdd&, const Values&, const Values&, const Values& dout) {
    return {dout[0], b.one(SumRows{}, {dout[0]})};
}

constexpr RulesFor<BiasAdd> kBiasAdd{.type = type, .vjp = vjp, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const BiasAdd&) { return kRules<kBiasAdd>; }

}  // namespace octavo
