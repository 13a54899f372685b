// y = sqrt(x 2^exponent).     x, y: same type, float
#include "graph/scaled.h"
#include "ops/root.h"

namespace octavo {
namespace {

Types type(const Sqrt&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

// dx = dy / (2 sqrt(x))
Values vjp(Builder& b, const Sqrt& op, const Values& in, const Values&, const Values& dout) {
    check(op == Sqrt{}, "sqrt: no gradient with an exponent");
    const Value half = b.constant({accumulator(b.dtype(in[0])), {1}}, 0.5);
    return {b.mul(b.mul(dout[0], b.one(Rsqrt{}, {in[0]})), half)};
}

ScaledValues scale(ScaleBuilder& s, const Sqrt&, const ScaledValues& in) {
    const Scaled x = s.settled(in[0]);
    const RootExponents e = root_exponents(s.offset(x, "sqrt"));
    return {{s.b.one(Sqrt{e.inside}, {x.data}), {.offset = e.root, .any = x.scale.any}}};
}

constexpr RulesFor<Sqrt> kSqrt{.type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Sqrt&) { return kRules<kSqrt>; }

}  // namespace octavo
