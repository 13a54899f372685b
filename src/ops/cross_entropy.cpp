// loss = weight * sum over the rows with target >= 0 of -log softmax(logits 2^exponent)[target]; a
// negative target leaves its row out. `weight` is 1 / (number of targets) for a mean over a whole
// step.
//     logits (M, V), targets (M) i32 below V, weight (1) f32 (f64 for f64 logits)
//         -> loss (1), lse = log sum exp(logits 2^exponent) (M, 0 for rows left out), both in
//         weight's dtype
#include "graph/scaled.h"
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

Values vjp(Builder& b, const CrossEntropy& op, const Values& in, const Values& out,
           const Values& dout) {
    check(!dout[1], "cross_entropy: no gradient flows through its second result, lse");
    return {
        b.one(CrossEntropyGrad{op.exponent, op.exponent}, {in[0], in[1], out[1], in[2], dout[0]}),
        {},
        {}};
}

// Of values.
ScaledValues scale(ScaleBuilder& s, const CrossEntropy&, const ScaledValues& in) {
    const CrossEntropy op{s.offset(in[0], "cross_entropy")};
    const Values out = s.b.emit(op, {in[0].data, in[1].data, in[2].data});
    return {{out[0], in[2].scale}, {out[1]}};
}

constexpr RulesFor<CrossEntropy> kCrossEntropy{.type = type, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const CrossEntropy&) { return kRules<kCrossEntropy>; }

}  // namespace octavo
