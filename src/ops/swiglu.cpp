// y = silu(gate) * up.     gate, up, y: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const SwiGlu&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

Values decompose(Builder& b, const SwiGlu&, const Values& in) {
    return {b.mul(b.one(Silu{}, {in[0]}), in[1])};
}

Values vjp(Builder& b, const SwiGlu&, const Values& in, const Values&, const Values& dout) {
    return b.emit(SwiGluGrad{}, {in[0], in[1], dout[0]});
}

constexpr RulesFor<SwiGlu> kSwiGlu{
    .type = type, .decompose = decompose, .vjp = vjp, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const SwiGlu&) { return kRules<kSwiGlu>; }

}  // namespace octavo
