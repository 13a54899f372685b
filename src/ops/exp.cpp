// y = e^(x 2^exponent).     x, y: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Exp&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Values vjp(Builder& b, const Exp& op, const Values&, const Values& out, const Values& dout) {
    check(op == Exp{}, "exp: no gradient with an exponent");
    return {b.mul(dout[0], out[0])};
}

// Of values.
ScaledValues scale(ScaleBuilder& s, const Exp&, const ScaledValues& in) {
    return {{s.b.one(Exp{s.offset(in[0], "exp")}, {in[0].data})}};
}

constexpr RulesFor<Exp> kExp{.type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Exp&) { return kRules<kExp>; }

}  // namespace octavo
