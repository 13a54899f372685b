// 0, 1, 2, ... along the last dimension, the same in every row: the positions of tokens.
//     -> y (..., T) i32
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Iota& op, Operands in) {
    in.expect_count(0);
    check(op.type.dtype == Dtype::i32 && op.type.scaling == kUnscaled,
          "iota: the result must be unscaled i32, got {}", to_string(op.type));
    return {op.type};
}

ScaledValues scale(ScaleBuilder& s, const Iota& op, const ScaledValues&) {
    return {{s.b.one(op, {})}};
}

constexpr RulesFor<Iota> kIota{.type = type, .scale = scale};

}  // namespace

const Rules& rules(const Iota&) { return kRules<kIota>; }

}  // namespace octavo
