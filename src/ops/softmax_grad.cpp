// Gradient of Softmax, from its result: dx = y * (dy - sum of y 2^exponent * dy over the row).
//     y, dy, dx: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const SoftmaxGrad&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

// y 2^exponent are probabilities; their mean of dy has the scale of dy.
ScaledValues scale(ScaleBuilder& s, const SoftmaxGrad&, const ScaledValues& in) {
    const Scaled &y = in[0], dy = s.settled(in[1]);
    const SoftmaxGrad op{s.offset(y, "softmax_grad")};
    return {{s.b.one(op, {y.data, dy.data}), shifted(dy.scale, op.exponent)}};
}

constexpr RulesFor<SoftmaxGrad> kSoftmaxGrad{
    .type = type, .scale = scale, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const SoftmaxGrad&) { return kRules<kSoftmaxGrad>; }

}  // namespace octavo
