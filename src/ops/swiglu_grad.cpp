// Gradients of SwiGlu:
//     dgate = silu'(gate) * (dy * up),   dup = dy * silu(gate)
//     gate, up, dy -> dgate, dup: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const SwiGluGrad&, Operands in) {
    in.expect_count(3);
    in.expect_float(0);
    in.expect_like(1, 0);
    in.expect_like(2, 0);
    return {in[0], in[0]};
}

Values decompose(Builder& b, const SwiGluGrad&, const Values& in) {
    const Value gate = in[0], up = in[1], dy = in[2];
    return {b.one(SiluGrad{}, {gate, b.mul(dy, up)}), b.mul(dy, b.one(Silu{}, {gate}))};
}

constexpr RulesFor<SwiGluGrad> kSwiGluGrad{
    .type = type, .decompose = decompose, .in_place = {{{0, 0}, {1, 1}}}};

}  // namespace

const Rules& rules(const SwiGluGrad&) { return kRules<kSwiGluGrad>; }

}  // namespace octavo
