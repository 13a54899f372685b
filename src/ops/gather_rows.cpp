// y[i] = x[rows[i]], for values that are not trained through, such as the last position of each
// sequence in generation.     x (M, C), rows (B) i32 in [0, M) -> y (B, C) of x's dtype
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const GatherRows&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_rank(0, 2);
    in.expect_dtype(1, Dtype::i32);
    in.expect_rank(1, 1);
    return {{in[0].dtype, {in[1].shape[0], in[0].shape[1]}}};
}

ScaledValues scale(ScaleBuilder& s, const GatherRows& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<GatherRows> kGatherRows{.type = type, .scale = scale};

}  // namespace

const Rules& rules(const GatherRows&) { return kRules<kGatherRows>; }

}  // namespace octavo
