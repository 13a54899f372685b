// y = x / 2 * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 v^3))) with v = x 2^exponent, the "gelu_new"
// of GPT-2.
//     x, y: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Gelu&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Values vjp(Builder& b, const Gelu& op, const Values& in, const Values&, const Values& dout) {
    return {b.one(GeluGrad{op.exponent}, {in[0], dout[0]})};
}

ScaledValues scale(ScaleBuilder& s, const Gelu&, const ScaledValues& in) {
    const Scaled x = s.settled(in[0]);
    return {{s.b.one(Gelu{s.offset(x, "gelu")}, {x.data}), x.scale}};
}

constexpr RulesFor<Gelu> kGelu{.type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Gelu&) { return kRules<kGelu>; }

}  // namespace octavo
