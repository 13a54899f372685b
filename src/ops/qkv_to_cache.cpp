// The product of a token with the weights of q, k and v, on its way into a cache:
//     q, k, v = columns of qkv, seen as heads
//     q, k = rope(norm(q)), rope(norm(k))          norm: rms_norm, where the model has one
//     pools = kv_write(pools, k, v, slots)
// Each step rounds as if it had been written.
//     k and v pools (P, G, D), qkv (B, T, (H + 2 G) D), positions and slots (B, T) i32
//     [, norm weights of q and k, (D) f32 (f64) each] [, scales of k and v, (1) f32 each]
//         -> both pools, q (B, T, H, D)
#include "graph/builder.h"

namespace octavo {
namespace {

std::int64_t head_dim(const QkvToCache& op, const Shape& qkv) {
    return qkv.last() / (op.heads + 2 * op.kv_heads);
}

Types type(const QkvToCache& op, Operands in) {
    const std::size_t norms = op.norm_eps ? 2 : 0;
    in.expect_count(5 + norms, 7 + norms);
    in.expect_float(2);
    in.expect_rank(2, 3);
    const Shape& qkv = in[2].shape;
    const std::int64_t all = op.heads + 2 * op.kv_heads;
    check(op.heads > 0 && op.kv_heads > 0 && qkv.last() % all == 0,
          "qkv_to_cache: {} + 2 x {} heads do not make up the columns of {}", op.heads, op.kv_heads,
          to_string(in[2]));
    const std::int64_t d = head_dim(op, qkv);
    const bool coded = in.size() == 7 + norms;
    check(coded || in.size() == 5 + norms,
          "qkv_to_cache: k and v have a scale each, got {} operands", in.size());
    in.expect_rank(0, 3);
    in.expect_dtype(0, coded ? Dtype::e4m3 : in[2].dtype);
    in.expect_shape(0, {in[0].shape[0], op.kv_heads, d});
    in.expect_like(1, 0);
    for (const std::size_t i : {3, 4}) {
        in.expect_dtype(i, Dtype::i32);
        in.expect_shape(i, {qkv[0], qkv[1]});
    }
    for (std::size_t i = 5; i < in.size(); ++i) {
        const bool norm = i < 5 + norms;
        in.expect_dtype(i, norm ? accumulator(in[2].dtype) : Dtype::f32);
        in.expect_shape(i, {norm ? d : 1});
    }
    return {in[0], in[1], {in[2].dtype, {qkv[0], qkv[1], op.heads, d}}};
}

Values decompose(Builder& b, const QkvToCache& op, const Values& in) {
    const Shape qkv = b.shape(in[2]);
    const std::int64_t d = head_dim(op, qkv);
    const Values parts = b.emit(Split{{op.heads * d, op.kv_heads * d, op.kv_heads * d}}, {in[2]});
    const auto heads = [&](int i) {
        const std::int64_t n = i == 0 ? op.heads : op.kv_heads;
        return b.reshape(parts[static_cast<std::size_t>(i)], {qkv[0], qkv[1], n, d});
    };
    const auto turned = [&](int i) {
        Value x = heads(i);
        if (op.norm_eps) {
            x = b.emit(RmsNorm{*op.norm_eps}, {x, in[5 + static_cast<std::size_t>(i)]})[0];
        }
        return b.one(op.rope, {x, in[3]});
    };
    const Value q = turned(0), k = turned(1);
    Values write{in[0], in[1], k, heads(2), in[4]};
    for (std::size_t i = op.norm_eps ? 7 : 5; i < in.size(); ++i) write.push_back(in[i]);
    Values out = b.emit(KvWrite{}, write);
    out.push_back(q);
    return out;
}

constexpr RulesFor<QkvToCache> kQkvToCache{
    .type = type, .decompose = decompose, .in_place = {{{0, 0}, {1, 1}}}};

}  // namespace

const Rules& rules(const QkvToCache&) { return kRules<kQkvToCache>; }

}  // namespace octavo
