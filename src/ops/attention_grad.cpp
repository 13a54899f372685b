// Gradients of Attention. The probabilities are computed anew from lse:
//     p = exp(scale q k^T - lse),  dv = p^T do,  dp = do v^T,  ds = p (dp - rowsum(do o)),
//     dq = scale ds k,             dk = scale ds^T q
// A key head collects from all its query heads. starts as there.
//     q (B, T, H, D), k, v (B, T, G, D), o like q, lse (B, H, T), do like q, [starts (B, T) i32]
//         -> dq like q, dk like k, dv like v
#include <cmath>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const AttentionGrad&, Operands in) {
    in.expect_count(6, 7);
    in.expect_float(0);
    in.expect_rank(0, 4);
    const Shape &q = in[0].shape, &k = in[1].shape;
    in.expect_dtype(1, in[0].dtype);
    in.expect_rank(1, 4);
    check(k[2] >= 1 && q[2] % k[2] == 0 && k == Shape{q[0], q[1], k[2], q[3]},
          "attention_grad: q and k may differ only in the number of heads, a multiple, got {} and "
          "{}",
          to_string(in[0]), to_string(in[1]));
    in.expect_like(2, 1);
    in.expect_like(3, 0);
    in.expect_dtype(4, accumulator(in[0].dtype));
    in.expect_shape(4, {q[0], q[2], q[1]});
    in.expect_like(5, 0);
    if (in.size() == 7) {
        in.expect_dtype(6, Dtype::i32);
        in.expect_shape(6, {q[0], q[1]});
    }
    return {in[0], in[1], in[2]};
}

// From the o that Attention wrote, under v's scale. The kernel multiplies dq and dk by the factor
// of the logits, 2^(a + b) of the value's, which leaves 2^-a of q's and 2^-b of k's scale to
// theirs.
ScaledValues scale(ScaleBuilder& s, const AttentionGrad& op, const ScaledValues& in) {
    const Scaled &q = in[0], &k = in[1], &v = in[2], dout = s.settled(in[5]);
    check(in[3].scale == v.scale, "attention_grad '{}': o must have the scale of v", s.b.label());
    const int a = s.offset(q, "attention_grad"), b = s.offset(k, "attention_grad");
    Values data{q.data, k.data, v.data, in[3].data, in[4].data, dout.data};
    if (in.size() == 7) data.push_back(in[6].data);
    const Values out = s.b.emit(AttentionGrad{std::ldexp(op.scale, a + b)}, data);
    const Exponent ds = product(s, dout.scale, v.scale);
    return {{out[0], shifted(ds, -a)}, {out[1], shifted(ds, -b)}, {out[2], dout.scale}};
}

// Rows of do are read before those of dq are written, k and v before dk and dv.
constexpr RulesFor<AttentionGrad> kAttentionGrad{
    .type = type, .scale = scale, .in_place = {{{0, 5}, {1, 1}, {2, 2}}}};

}  // namespace

const Rules& rules(const AttentionGrad&) { return kRules<kAttentionGrad>; }

}  // namespace octavo
