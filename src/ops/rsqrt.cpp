// y = 1 / sqrt(x 2^exponent).     x, y: same type, float
#include "graph/scaled.h"
#include "ops/root.h"

namespace octavo {
namespace {

Types type(const Rsqrt&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

// dx = -dy y^3 / 2. From dy on, whose smallness makes up for that of x.
Values vjp(Builder& b, const Rsqrt& op, const Values&, const Values& out, const Values& dout) {
    check(op == Rsqrt{}, "rsqrt: no gradient with an exponent");
    const Value y = out[0], minus_half = b.constant({accumulator(b.dtype(y)), {1}}, -0.5);
    return {b.mul(b.mul(b.mul(b.mul(dout[0], y), y), y), minus_half)};
}

ScaledValues scale(ScaleBuilder& s, const Rsqrt&, const ScaledValues& in) {
    const Scaled x = s.settled(in[0]);
    const RootExponents e = root_exponents(s.offset(x, "rsqrt"));
    return {{s.b.one(Rsqrt{e.inside}, {x.data}), {.offset = -e.root, .any = x.scale.any}}};
}

constexpr RulesFor<Rsqrt> kRsqrt{.type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Rsqrt&) { return kRules<kRsqrt>; }

}  // namespace octavo
