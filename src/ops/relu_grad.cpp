// Gradient of Relu, from its result: dx = dy where y > 0, else 0.     y, dy, dx: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const ReluGrad&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

// The sign of y does not depend on its scale.
ScaledValues scale(ScaleBuilder& s, const ReluGrad& op, const ScaledValues& in) {
    const Scaled &y = in[0], &dy = in[1];
    return {{s.b.one(op, {y.data, dy.data}), dy.scale, dy.size}};
}

constexpr RulesFor<ReluGrad> kReluGrad{
    .type = type, .scale = scale, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const ReluGrad&) { return kRules<kReluGrad>; }

}  // namespace octavo
