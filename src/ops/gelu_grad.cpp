// Gradient of Gelu. With v = x 2^exponent, s = sigmoid(2u), u = sqrt(2 / pi) * (v + 0.044715 v^3),
// so that y = x * s:
//     dx = dy * (s + v * s * (1 - s) * 2u'),   u' = sqrt(2 / pi) * (1 + 3 * 0.044715 v^2)
//     x, dy, dx: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const GeluGrad&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

// |gelu'| <= 1.13
ScaledValues scale(ScaleBuilder& s, const GeluGrad&, const ScaledValues& in) {
    const Scaled dy = s.settled(in[1]);
    return {{s.b.one(GeluGrad{s.offset(in[0], "gelu_grad")}, {in[0].data, dy.data}), dy.scale}};
}

constexpr RulesFor<GeluGrad> kGeluGrad{
    .type = type, .scale = scale, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const GeluGrad&) { return kRules<kGeluGrad>; }

}  // namespace octavo
