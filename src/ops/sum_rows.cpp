// y[j] = sum over all rows of x[row, j].     x (..., N) -> y (N) of f32 (f64 for f64 x)
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const SumRows&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {{accumulator(in[0].dtype), {in[0].shape.last()}}};
}

// dy in every row.
Values vjp(Builder& b, const SumRows&, const Values& in, const Values&, const Values& dout) {
    return {b.one(BiasAdd{}, {b.constant(b.type(in[0]), 0), dout[0]})};
}

// Sums in f32 need no room: they keep the scale of their terms.
ScaledValues scale(ScaleBuilder& s, const SumRows& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<SumRows> kSumRows{.type = type, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const SumRows&) { return kRules<kSumRows>; }

}  // namespace octavo
