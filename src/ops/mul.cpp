// y = a * b, element by element, or a * b[0] if b is one f32 (f64 for f64 a).
//     a, y: same type, float; b: the same type, or (1)
//
// A single b is for factors that are not trained: no gradient flows to it.
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Mul&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    if (in[1] != Type{accumulator(in[0].dtype), {1}}) in.expect_like(1, 0);
    return {in[0]};
}

Values vjp(Builder& b, const Mul&, const Values& in, const Values&, const Values& dout) {
    const bool same = b.type(in[0]) == b.type(in[1]);
    return {b.mul(dout[0], in[1]), same ? b.mul(dout[0], in[0]) : Value{}};
}

ScaledValues scale(ScaleBuilder& s, const Mul& op, const ScaledValues& in) {
    const Scaled x = s.settled(in[0]), y = s.settled(in[1]);
    return {{s.b.one(op, {x.data, y.data}), product(s, x.scale, y.scale)}};
}

constexpr RulesFor<Mul> kMul{
    .type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const Mul&) { return kRules<kMul>; }

}  // namespace octavo
