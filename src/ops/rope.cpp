// Rotary position embedding: the pair (x[i], x[i + D/2]) of each head is rotated by the angle
// position * f[i] ("rotate_half", as Hugging Face stores weights), f[i] = theta^(-2i / D).
//     x (B, T, H, D), positions (B, T) i32 in [0, max_positions) -> y like x
//
// Without positions, token t has position t. A negative position (an unused slot) counts as 0.
// `scaling` llama3 slows down the long wavelengths 2 pi / f, as "rope_type": "llama3" of Hugging
// Face. `inverse` rotates back, which is the gradient.
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Rope& op, Operands in) {
    in.expect_count(1, 2);
    in.expect_float(0);
    in.expect_rank(0, 4);
    const Shape& x = in[0].shape;
    check(x.last() % 2 == 0, "rope: the head dimension must be even, got {}", to_string(in[0]));
    check(op.theta > 0, "rope: expected theta > 0, got {}", op.theta);
    if (in.size() == 2) {
        in.expect_dtype(1, Dtype::i32);
        in.expect_shape(1, {x[0], x[1]});
        check(op.max_positions > 0, "rope: expected max_positions > 0, got {}", op.max_positions);
    } else {
        check(x[1] <= op.max_positions,
              "rope: expected at most {} positions, got sequences of {} tokens\n"
              "  Shorten the sequences, or raise max_position_embeddings in config.json.",
              op.max_positions, x[1]);
    }
    return {in[0]};
}

Values vjp(Builder& b, const Rope& op, const Values& in, const Values&, const Values& dout) {
    Rope back = op;
    back.inverse = !op.inverse;
    Values operands = in, din(in.size());
    operands[0] = dout[0];
    din[0] = b.one(back, operands);
    return din;
}

constexpr RulesFor<Rope> kRope{.type = type, .vjp = vjp, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Rope&) { return kRules<kRope>; }

}  // namespace octavo
