// cache' = cache, but cache'[b, positions[b, t]] = new[b, t]. Positions outside [0, S) write
// nothing (unused slots have -1); of equal positions in a sequence the last counts.
//     cache (B, S, H, D), new (B, T, H, D) of one dtype, positions (B, T) i32 -> cache' like cache
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const KvWrite&, Operands in) {
    in.expect_count(3);
    in.expect_float(0);
    in.expect_rank(0, 4);
    in.expect_dtype(1, in[0].dtype);
    in.expect_rank(1, 4);
    const Shape &cache = in[0].shape, &added = in[1].shape;
    in.expect_shape(1, {cache[0], added[1], cache[2], cache[3]});
    in.expect_dtype(2, Dtype::i32);
    in.expect_shape(2, {added[0], added[1]});
    return {in[0]};
}

// The cache holds data: the scale of keys and values follows from shapes and initialisation alone.
ScaledValues scale(ScaleBuilder& s, const KvWrite& op, const ScaledValues& in) {
    const Value cache = s.b.one(op, {in[0].data, in[1].data, in[2].data});
    return {{cache, in[1].scale, in[1].size}};
}

constexpr RulesFor<KvWrite> kKvWrite{.type = type, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const KvWrite&) { return kRules<kKvWrite>; }

}  // namespace octavo
