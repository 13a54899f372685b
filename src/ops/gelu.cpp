// y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), the "gelu_new" of GPT-2.
//     x, y: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Gelu&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Values vjp(Builder& b, const Gelu&, const Values& in, const Values&, const Values& dout) {
    return {b.one(GeluGrad{}, {in[0], dout[0]})};
}

constexpr RulesFor<Gelu> kGelu{.type = type, .vjp = vjp, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Gelu&) { return kRules<kGelu>; }

}  // namespace octavo
