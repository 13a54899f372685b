// Amax, DelayedScale and Quantise in one: one pass over x when the scale is delayed.
//     x any float without scales, history (W) f32, counter (1) i32, scale (1) f32
//         -> y (shape of x) in the rule's format under the scale used, history', used (1),
//            with `transpose` also y^T (N, M), where M are the rows of x and N its last dimension
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const DelayedQuantise& op, Operands in) {
    in.expect_count(4);
    in.expect_float(0);
    expect_history("delayed_quantise", in, 1);
    expect_scalar(in, 2, Dtype::i32);
    expect_scalar(in, 3, Dtype::f32);
    Types out{scaled_type("delayed_quantise", op.rule.to, in[0].shape), in[1], in[3]};
    if (op.transpose) {
        const Shape& x = in[0].shape;
        check(x.rank() >= 2, "delayed_quantise: expected a matrix to transpose, got {}",
              to_string(in[0]));
        out.push_back({op.rule.to, {x.last(), x.rows()}, kPerTensor});
    }
    return out;
}

Values decompose(Builder& b, const DelayedQuantise& op, const Values& in) {
    const Value amax = b.one(Amax{}, {in[0]});
    const Values delayed = b.emit(DelayedScale{op.rule}, {amax, in[1], in[2], in[3]});
    const Value y = b.one(Quantise{op.rule.to}, {in[0], delayed[0]});
    Values out{y, delayed[1], delayed[0]};
    if (op.transpose) out.push_back(b.one(Transpose{}, {y}));
    return out;
}

constexpr RulesFor<DelayedQuantise> kDelayedQuantise{
    .type = type, .decompose = decompose, .in_place = {{{1, 1}}}};

}  // namespace

const Rules& rules(const DelayedQuantise&) { return kRules<kDelayedQuantise>; }

}  // namespace octavo
