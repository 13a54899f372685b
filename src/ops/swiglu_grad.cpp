// Gradients of SwiGlu:
//     dgate = silu'(gate 2^exponent) * (dy * up),   dup = dy * gate * sigmoid(gate 2^exponent)
//     gate, up, dy -> dgate, dup: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const SwiGluGrad&, Operands in) {
    in.expect_count(3);
    in.expect_float(0);
    in.expect_like(1, 0);
    in.expect_like(2, 0);
    return {in[0], in[0]};
}

Values decompose(Builder& b, const SwiGluGrad& op, const Values& in) {
    const Value gate = in[0], up = in[1], dy = in[2];
    return {b.one(SiluGrad{op.exponent}, {gate, b.mul(dy, up)}),
            b.mul(dy, b.one(Silu{op.exponent}, {gate}))};
}

ScaledValues scale(ScaleBuilder& s, const SwiGluGrad&, const ScaledValues& in) {
    const Scaled &gate = in[0], &up = in[1], dy = s.settled(in[2]);
    const Values out =
        s.b.emit(SwiGluGrad{s.offset(gate, "swiglu_grad")}, {gate.data, up.data, dy.data});
    return {{out[0], product(s, dy.scale, up.scale)}, {out[1], product(s, dy.scale, gate.scale)}};
}

constexpr RulesFor<SwiGluGrad> kSwiGluGrad{
    .type = type, .decompose = decompose, .scale = scale, .in_place = {{{0, 0}, {1, 1}}}};

}  // namespace

const Rules& rules(const SwiGluGrad&) { return kRules<kSwiGluGrad>; }

}  // namespace octavo
