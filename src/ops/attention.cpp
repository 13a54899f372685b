// Causal attention with grouped heads: query head h reads key and value head h / (H / G),
//     o[t] = sum over s of p[t, s] v[s],  p[t, s] = exp(scale q[t] k[s] - lse[t]),
//     lse[t] = log sum over s of exp(scale q[t] k[s]),
// over s <= t. With starts, over starts[b, t] <= s <= t: sequences of several documents, each of
// which sees itself only. starts[b, t], in [0, t] and not falling along t, is where the document of
// t begins. Computed in f32 (f64 for f64). Generation reads a cache: paged_attention.cpp.
//     q (B, T, H, D), k and v (B, T, G, D) in q's dtype [, starts (B, T) i32]
//         -> o like q, lse (B, H, T) in f32 (f64)
#include <cmath>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Attention&, Operands in) {
    in.expect_count(3, 4);
    in.expect_float(0);
    in.expect_rank(0, 4);
    in.expect_dtype(1, in[0].dtype);
    in.expect_rank(1, 4);
    in.expect_like(2, 1);
    const Shape &q = in[0].shape, &k = in[1].shape;
    check(k[2] >= 1 && q[2] % k[2] == 0 && k == Shape{q[0], q[1], k[2], q[3]},
          "attention: q and k may differ only in the number of heads, a multiple, got {} and {}",
          to_string(in[0]), to_string(in[1]));
    if (in.size() == 4) {
        in.expect_dtype(3, Dtype::i32);
        in.expect_shape(3, {q[0], q[1]});
    }
    return {in[0], {accumulator(in[0].dtype), {q[0], q[2], q[1]}}};
}

Values vjp(Builder& b, const Attention& op, const Values& in, const Values& out,
           const Values& dout) {
    check(dout[0] && !dout[1], "attention: gradients flow through o only, not through lse");
    Values operands{in[0], in[1], in[2], out[0], out[1], dout[0]};
    if (in.size() == 4) operands.push_back(in[3]);
    Values din = b.emit(AttentionGrad{op.scale}, operands);
    din.resize(in.size());
    return din;
}

// Logits are values, and o is a mean of rows of v. The mean over many rows is smaller than they
// are: the size of o allows for it, for the product that reads it next.
ScaledValues scale(ScaleBuilder& s, const Attention& op, const ScaledValues& in) {
    const Scaled &q = in[0], &k = in[1], &v = in[2];
    const int logits = s.offset(q, "attention") + s.offset(k, "attention");
    Values data{q.data, k.data, v.data};
    if (in.size() == 4) data.push_back(in[3].data);
    const Values out = s.b.emit(Attention{std::ldexp(op.scale, logits)}, data);
    Exponent size = v.size;
    if (s.options.rebalance_attention) size.offset += attention_exponent(s.b.shape(k.data)[1]);
    return {{out[0], v.scale, size}, {out[1]}};
}

constexpr RulesFor<Attention> kAttention{
    .type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Attention&) { return kRules<kAttention>; }

}  // namespace octavo
