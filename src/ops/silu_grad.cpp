// Gradient of Silu. With v = x 2^exponent and s = sigmoid(v):
//     dx = dy * s * (1 + v * (1 - s))
//     x, dy, dx: same type, float
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const SiluGrad&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

// |silu'| <= 1.1
ScaledValues scale(ScaleBuilder& s, const SiluGrad&, const ScaledValues& in) {
    const Scaled dy = s.settled(in[1]);
    return {{s.b.one(SiluGrad{s.offset(in[0], "silu_grad")}, {in[0].data, dy.data}), dy.scale}};
}

constexpr RulesFor<SiluGrad> kSiluGrad{
    .type = type, .scale = scale, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const SiluGrad&) { return kRules<kSiluGrad>; }

}  // namespace octavo
