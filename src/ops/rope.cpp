// Rotary position embedding: the pair (x[i], x[i + D/2]) of each head is rotated by the angle
// position * f[i] ("rotate_half", as Hugging Face stores weights), f[i] = theta^(-2i / D).
//     x (B, T, H, D), positions (B, T) i32 in [0, max_positions) -> y like x
//
// Without positions, token t has position t. A negative position (an unused slot) counts as 0.
// `scaling` llama3 slows down the long wavelengths 2 pi / f, as "rope_type": "llama3" of Hugging
// Face. `inverse` rotates back, which is the gradient.
#include "ops/rope.h"

#include <cmath>
#include <numbers>

#include "graph/scaled.h"

namespace octavo {
namespace {

// Llama 3.1: wavelengths that the original context holds high_freq_factor times or more stay as
// they are, those it holds less than low_freq_factor times are stretched by `factor`, and between
// the two the frequency is interpolated.
double scaled(double frequency, const RopeScaling& s) {
    if (s.kind == RopeScaling::Kind::none) return frequency;
    const double turns =
        static_cast<double>(s.original_max_positions) * frequency / (2 * std::numbers::pi);
    if (turns > s.high_freq_factor) return frequency;
    if (turns < s.low_freq_factor) return frequency / s.factor;
    const double smooth = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

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

ScaledValues scale(ScaleBuilder& s, const Rope& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<Rope> kRope{.type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Rope&) { return kRules<kRope>; }

std::vector<double> rope_frequencies(const Rope& op, std::int64_t half) {
    std::vector<double> frequency(static_cast<std::size_t>(half));
    for (std::size_t i = 0; i < frequency.size(); ++i) {
        const double exponent = -static_cast<double>(i) / static_cast<double>(half);
        frequency[i] = scaled(std::pow(op.theta, exponent), op.scaling);
    }
    return frequency;
}

}  // namespace octavo
