// One step of AdamW (arXiv 1711.05101) in the order of torch.optim.AdamW:
//     g' = g * factor,   m' = beta1 m + (1 - beta1) g',   v' = beta2 v + (1 - beta2) g'^2
//     w' = w (1 - lr weight_decay) - lr / bias1 * m' / (sqrt(v' / bias2) + eps)
//     w, g, m, v: one shape, any float, plain or under one scale (g also plain e4m3 or e5m2; m and
//     v also e4m3 expanded),
//     factor (1) f32, schedule (3) f32 = {lr, bias1, bias2}, step (1) i32, [bounds (2) f32],
//     [copy_scale (1) f32]
//     -> w', m', v' in the types of w, m, v; with `amax` also max |w'| (1) f32, as w' is stored;
//     with `copy` also w' as stored in its format: what Cast makes of the data of w', or Quantise
//     under copy_scale
//
// Everything is computed in f32 from decoded operands; w' from the m' and v' that are not rounded
// yet. A gradient under a scale is decoded as code * (scale * factor). Results under a scale get a
// fresh one from their amax, m' and v' by `scale_rounding`, w' always a power of two (arXiv
// 2310.18313; the old scale where that amax is 0 or not finite). With `keep_scale`, w' keeps that
// of w; with bounds (AdamBounds), m' and v' take the largest powers of two up to them (arXiv
// 2407.17353). With `stochastic`, results in bf16 are rounded by base/stochastic.h, with random
// numbers that depend on `stream`, the step and the element alone; with `stochastic_moments`, so
// are m' (state 0) and v' (state 1) under a scale, with `seed` too. Expanded m' and v' get fresh
// expansions from their groups (base/expansion.h).
//
// With `sqrt_v`, v and v' stand for their roots, which need half as many binades. With `v_floor`, a
// v' > 0 under a scale becomes the smallest positive code at least: a v that is lost makes the next
// update m' / (sqrt(1 - beta2) |g'|), which nothing bounds (arXiv 2409.12517).
//
// bias_k = 1 - beta_k^step belong to the caller, who counts the steps. If factor is infinite or
// NaN, the step is skipped: w, m, v stay as they are.
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

void expect_state(const Operands& in, std::size_t i) {
    in.expect_shape(i, in[0].shape);
    const Type& t = in[i];
    if (i >= 2 && t.dtype == Dtype::e4m3 && t.scaling == kExpanded) return;
    const bool plain = t.dtype == Dtype::f32 || t.dtype == Dtype::bf16 || t.dtype == Dtype::f16;
    const bool scaled = is_fp8(t.dtype) || t.dtype == Dtype::f16;
    check(
        (plain && t.scaling == kUnscaled) || (scaled && t.scaling == kPerTensor),
        "adamw: operand {} must be plain f32, bf16 or f16, or f16, e4m3 or e5m2 with one f32 scale "
        "for the whole tensor (moments also e4m3 expanded), got {}",
        i, to_string(t));
}

Types type(const AdamW& op, Operands in) {
    const bool scaled_copy = op.copy && op.copy->scaled;
    in.expect_count(scaled_copy ? 8 : 7, scaled_copy ? 9 : 8);
    for (const std::size_t i : {0, 2, 3}) expect_state(in, i);
    if (is_fp8(in[1].dtype) && in[1].scaling == kUnscaled) {
        in.expect_shape(1, in[0].shape);
    } else {
        expect_state(in, 1);
    }
    expect_scalar(in, 4, Dtype::f32);
    in.expect_dtype(5, Dtype::f32);
    in.expect_shape(5, {3});
    expect_scalar(in, 6, Dtype::i32);
    if (has_bounds(op, in.size())) {
        in.expect_dtype(7, Dtype::f32);
        in.expect_shape(7, {2});
    }
    if (scaled_copy) expect_scalar(in, in.size() - 1, Dtype::f32);
    Types out{in[0], in[2], in[3]};
    if (op.amax) out.push_back({Dtype::f32, {1}});
    if (scaled_copy) {
        out.push_back(scaled_type("adamw", op.copy->to, in[0].shape));
    } else if (op.copy) {
        out.push_back({op.copy->to, in[0].shape});
    }
    return out;
}

Values decompose(Builder& b, const AdamW& op, const Values& in) {
    if (!op.amax && !op.copy) return {};
    AdamW alone = op;
    alone.amax = false;
    alone.copy.reset();
    const bool scaled_copy = op.copy && op.copy->scaled;
    Values out = b.emit(alone, {in.begin(), in.end() - (scaled_copy ? 1 : 0)});
    const Value w = out[0];
    if (op.amax) out.push_back(b.one(Amax{}, {w}));
    if (scaled_copy) {
        out.push_back(b.one(Quantise{op.copy->to}, {w, in.back()}));
    } else if (op.copy) {
        const Value data = b.type(w).scaling == kUnscaled ? w : b.one(Codes{}, {w});
        out.push_back(b.one(Cast{.to = op.copy->to, .exponent = op.copy->exponent}, {data}));
    }
    return out;
}

constexpr RulesFor<AdamW> kAdamW{
    .type = type, .decompose = decompose, .in_place = {{{0, 0}, {1, 2}, {2, 3}}}};

}  // namespace

const Rules& rules(const AdamW&) { return kRules<kAdamW>; }

}  // namespace octavo
