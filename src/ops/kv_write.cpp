// New keys and values go to their slots in the pools of a cache: k'[slots[b, t]] = k[b, t], and so
// with v. Pools in e4m3 hold codes, of x * fl(1 / scale) saturated. Negative slots write nothing;
// the others differ from each other.
//     k and v pools (P, G, D), k and v (B, T, G, D), slots (B, T) i32 in [-1, P) -> both pools
//     all of one dtype; or pools in e4m3, and the scales of k and v, (1) f32 each, after the slots
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const KvWrite&, Operands in) {
    in.expect_count(5, 7);
    in.expect_float(2);
    in.expect_rank(2, 4);
    in.expect_like(3, 2);
    const Type& added = in[2];
    const bool coded = in.size() == 7;
    in.expect_rank(0, 3);
    in.expect_dtype(0, coded ? Dtype::e4m3 : added.dtype);
    in.expect_shape(0, {in[0].shape[0], added.shape[2], added.shape[3]});
    in.expect_like(1, 0);
    in.expect_dtype(4, Dtype::i32);
    in.expect_shape(4, {added.shape[0], added.shape[1]});
    check(coded || in.size() == 5, "kv_write: k and v have a scale each, got {} operands",
          in.size());
    for (std::size_t i = 5; i < in.size(); ++i) {
        in.expect_dtype(i, Dtype::f32);
        in.expect_shape(i, {1});
    }
    return {in[0], in[1]};
}

// The pools hold data: the scale of keys and values follows from shapes and initialisation alone.
ScaledValues scale(ScaleBuilder& s, const KvWrite& op, const ScaledValues& in) {
    check(in.size() == 5, "kv_write: scales do not propagate into a cache that has scales");
    Values data;
    for (const Scaled& x : in) data.push_back(x.data);
    const Values pools = s.b.emit(op, data);
    return {{pools[0], in[2].scale, in[2].size}, {pools[1], in[3].scale, in[3].size}};
}

constexpr RulesFor<KvWrite> kKvWrite{.type = type, .scale = scale, .in_place = {{{0, 0}, {1, 1}}}};

}  // namespace

const Rules& rules(const KvWrite&) { return kRules<kKvWrite>; }

}  // namespace octavo
