// Attention of generation over a cache in blocks: query (b, t) reads the keys and values at the
// positions 0 ... positions[b, t] of its sequence, of which position s lies in slot
//     tables[sequences[b, t], s / block] * block + s % block
// of the pools. Query head h reads key and value head h / (H / G); softmax in f32 (f64 for f64) as
// in attention.cpp. A negative position is an unused row, whose o is zero. Pools in e4m3 hold
// codes under one scale each, which scores and results are multiplied by in f32. (FP8-RL's KV-only
// mode rounds each code * scale to bf16 first; this has one rounding less for every element.)
//
// With a scale of q, too, both products are of codes, and the rest in f32, whatever q's dtype is
// (FP8-RL's FP8 attention; the factor of 256 is FlashAttention-3's, arXiv:2407.08608):
//     codes of q = e4m3(q * fl(1 / q scale))
//     score = sum(codes of q * codes of k) * (q scale * k scale) * scale,  p = e^(score - largest)
//     o = sum(e4m3(256 p) * codes of v) * v scale / (256 sum(p))
// `largest` may be that of the keys so far, with sums in proportion, as in attention by tiles: then
// p is rounded in other places.
//     q (B, T, H, D), k and v pools (P, G, D), positions and sequences (B, T) i32,
//     tables (S, M) i32 [, scales of k and v [and q], (1) f32 each] -> o like q
#include <cmath>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const PagedAttention& op, Operands in) {
    in.expect_count(6, 9);
    in.expect_float(0);
    in.expect_rank(0, 4);
    const Shape& q = in[0].shape;
    const bool coded = in.size() >= 8;
    in.expect_rank(1, 3);
    in.expect_dtype(1, coded ? Dtype::e4m3 : in[0].dtype);
    const Shape& pool = in[1].shape;
    in.expect_shape(1, {pool[0], pool[1], q[3]});
    in.expect_like(2, 1);
    check(pool[1] >= 1 && q[2] % pool[1] == 0,
          "paged_attention: the number of query heads must be a multiple of that of key heads, got "
          "{} and {}",
          q[2], pool[1]);
    check(op.block >= 1 && pool[0] % op.block == 0,
          "paged_attention: expected a pool of whole blocks of {}, got {} slots", op.block,
          pool[0]);
    for (const std::size_t i : {3, 4}) {
        in.expect_dtype(i, Dtype::i32);
        in.expect_shape(i, {q[0], q[1]});
    }
    in.expect_dtype(5, Dtype::i32);
    in.expect_rank(5, 2);
    check(coded || in.size() == 6, "paged_attention: k and v have a scale each, got {} operands",
          in.size());
    for (std::size_t i = 6; i < in.size(); ++i) {
        in.expect_dtype(i, Dtype::f32);
        in.expect_shape(i, {1});
    }
    return {in[0]};
}

// As attention.cpp.
ScaledValues scale(ScaleBuilder& s, const PagedAttention& op, const ScaledValues& in) {
    check(in.size() == 6, "paged_attention: scales do not propagate through a cache that has some");
    const Scaled &q = in[0], &k = in[1], &v = in[2];
    const int logits = s.offset(q, "paged_attention") + s.offset(k, "paged_attention");
    PagedAttention scaled = op;
    scaled.scale = std::ldexp(op.scale, logits);
    Values data;
    for (const Scaled& x : in) data.push_back(x.data);
    Exponent size = v.size;
    if (s.options.rebalance_attention) {
        size.offset += attention_exponent(s.b.shape(in[5].data)[1] * op.block);
    }
    return {{s.b.one(scaled, data), v.scale, size}};
}

constexpr RulesFor<PagedAttention> kPagedAttention{
    .type = type, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const PagedAttention&) { return kRules<kPagedAttention>; }

}  // namespace octavo
