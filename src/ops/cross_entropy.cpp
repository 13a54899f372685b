// loss = weight * sum over the rows with target >= 0 of -log softmax(logits)[target]; a negative
// target leaves its row out. `weight` is 1 / (number of targets) for a mean over a whole step.
//     logits (M, V), targets (M) i32 below V, weight (1) f32 (f64 for f64 logits)
//         -> loss (1), lse = log sum exp(logits) (M, 0 for rows left out), both in weight's dtype
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const CrossEntropy&, Operands in) {
    in.expect_count(3);
    in.expect_float(0);
    in.expect_rank(0, 2);
    in.expect_dtype(1, Dtype::i32);
    in.expect_shape(1, {in[0].shape[0]});
    expect_scalar(in, 2, accumulator(in[0].dtype));
    return {in[2], {in[2].dtype, {in[0].shape[0]}}};
}

Values vjp(Builder& b, const CrossEntropy&, const Values& in, const Values& out,
           const Values& dout) {
    check(!dout[1], "cross_entropy: no gradient flows through its second result, lse");
    return {b.one(CrossEntropyGrad{}, {in[0], in[1], out[1], in[2], dout[0]}), {}, {}};
}

constexpr RulesFor<CrossEntropy> kCrossEntropy{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const CrossEntropy&) { return kRules<kCrossEntropy>; }

}  // namespace octavo
