// y = x * sigmoid(x 2^exponent).     x, y: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Silu&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Values vjp(Builder& b, const Silu& op, const Values& in, const Values&, const Values& dout) {
    return {b.one(SiluGrad{op.exponent}, {in[0], dout[0]})};
}

ScaledValues scale(ScaleBuilder& s, const Silu&, const ScaledValues& in) {
    const Scaled x = s.settled(in[0]);
    return {{s.b.one(Silu{s.offset(x, "silu")}, {x.data}), x.scale}};
}

constexpr RulesFor<Silu> kSilu{.type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Silu&) { return kRules<kSilu>; }

}  // namespace octavo
