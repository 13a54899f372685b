// y = max(x, 0), NaN kept.     x, y: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Relu&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

// From y rather than x, so that y may take x's memory.
Values vjp(Builder& b, const Relu&, const Values&, const Values& out, const Values& dout) {
    return {b.one(ReluGrad{}, {out[0], dout[0]})};
}

ScaledValues scale(ScaleBuilder& s, const Relu& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<Relu> kRelu{.type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Relu&) { return kRules<kRelu>; }

}  // namespace octavo
