// y = gate * sigmoid(gate 2^exponent) * up.     gate, up, y: same type, float
// Joined: gate and up (..., F) come as one operand (..., 2 F).
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const SwiGlu& op, Operands in) {
    in.expect_count(op.joined ? 1 : 2);
    in.expect_float(0);
    if (op.joined) {
        Type y = in[0];
        check(y.shape.rank() > 0 && y.shape.last() % 2 == 0,
              "swiglu: gate and up side by side are an even number of columns, got {}",
              to_string(y));
        y.shape[-1] /= 2;
        return {y};
    }
    in.expect_like(1, 0);
    return {in[0]};
}

Values decompose(Builder& b, const SwiGlu& op, const Values& in) {
    if (op.joined) {
        const std::int64_t half = b.shape(in[0]).last() / 2;
        return {b.one(SwiGlu{op.exponent}, b.emit(Split{{half, half}}, in))};
    }
    return {b.mul(b.one(Silu{op.exponent}, {in[0]}), in[1])};
}

Values vjp(Builder& b, const SwiGlu& op, const Values& in, const Values&, const Values& dout) {
    check(!op.joined, "swiglu: no gradient flows to a joined operand");
    return b.emit(SwiGluGrad{op.exponent}, {in[0], in[1], dout[0]});
}

ScaledValues scale(ScaleBuilder& s, const SwiGlu& op, const ScaledValues& in) {
    check(!op.joined, "swiglu: scales propagate to gate and up by themselves");
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
