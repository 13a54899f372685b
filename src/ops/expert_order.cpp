// Where each choice of an expert goes: a choice c = t k + j is token t's j-th. Choices are sorted
// by expert, those of an expert by c. Each expert's rows begin at a multiple of `alignment`; the
// rows that this leaves over belong to no choice.
//     ids (T, k) i32 below `experts`
//         -> rows (T, k) i32: the row of each choice
//            choices (R) i32: the choice of each row, -1 for none
//            offsets (experts + 1) i32: each expert's first row, and the end of the last one's
//            counts (experts) i32: its choices
// R = T k, and what min(experts, T k) experts can leave over, as a multiple of `alignment`: room
// for whatever is chosen, so no token is ever dropped.
#include <algorithm>

#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const ExpertOrder& op, Operands in) {
    in.expect_count(1);
    in.expect_rank(0, 2);
    in.expect_dtype(0, Dtype::i32);
    check(op.experts > 0 && op.alignment > 0,
          "expert_order: expected experts and an alignment above 0, got {} and {}", op.experts,
          op.alignment);
    const std::int64_t choices = in[0].shape.elements(), step = op.alignment;
    const std::int64_t most = choices + std::min(op.experts, choices) * (step - 1);
    const std::int64_t rows = (most + step - 1) / step * step;
    check(rows < std::int64_t{1} << 31, "expert_order: expected fewer than 2^31 rows, got {}",
          rows);
    return {
        in[0], {Dtype::i32, {rows}}, {Dtype::i32, {op.experts + 1}}, {Dtype::i32, {op.experts}}};
}

constexpr RulesFor<ExpertOrder> kExpertOrder{.type = type};

}  // namespace

const Rules& rules(const ExpertOrder&) { return kRules<kExpertOrder>; }

}  // namespace octavo
