// y = gate * sigmoid(gate 2^exponent) * up.     gate, up, y: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const SwiGlu&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

Values decompose(Builder& b, const SwiGlu& op, const Values& in) {
    return {b.mul(b.one(Silu{op.exponent}, {in[0]}), in[1])};
}

Values vjp(Builder& b, const SwiGlu& op, const Values& in, const Values&, const Values& dout) {
    return b.emit(SwiGluGrad{op.exponent}, {in[0], in[1], dout[0]});
}

ScaledValues scale(ScaleBuilder& s, const SwiGlu&, const ScaledValues& in) {
    const Scaled gate = s.settled(in[0]), up = s.settled(in[1]);
    return {{s.b.one(SwiGlu{s.offset(gate, "swiglu")}, {gate.data, up.data}),
             product(s, gate.scale, up.scale)}};
}

constexpr RulesFor<SwiGlu> kSwiGlu{.type = type,
                                   .decompose = decompose,
                                   .vjp = vjp,
                                   .scale = scale,
                                   .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const SwiGlu&) { return kRules<kSwiGlu>; }

}  // namespace octavo
