// y = x * sigmoid(x).     x, y: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Silu&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Values vjp(Builder& b, const Silu&, const Values& in, const Values&, const Values& dout) {
    return {b.one(SiluGrad{}, {in[0], dout[0]})};
}

constexpr RulesFor<Silu> kSilu{.type = type, .vjp = vjp, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Silu&) { return kRules<kSilu>; }

}  // namespace octavo
