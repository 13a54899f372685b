// Gradient of CrossEntropy by its logits, and 0 in the rows left out:
//     2^gradient_exponent dloss * weight * (softmax(logits 2^exponent) - onehot(target))
//     logits (M, V), targets (M) i32, lse (M), weight (1), dloss (1) -> dlogits like logits
#include "graph/scaled.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const CrossEntropyGrad&, Operands in) {
    in.expect_count(5);
    in.expect_float(0);
    in.expect_rank(0, 2);
    in.expect_dtype(1, Dtype::i32);
    in.expect_shape(1, {in[0].shape[0]});
    in.expect_dtype(2, accumulator(in[0].dtype));
    in.expect_shape(2, {in[0].shape[0]});
    expect_scalar(in, 3, accumulator(in[0].dtype));
    in.expect_like(4, 3);
    return {in[0]};
}

// weight * dloss = m 2^k, 1 <= m < 2; 2^k belongs to the scale, and so does the usual size of
// softmax - onehot.
ScaledValues scale(ScaleBuilder& s, const CrossEntropyGrad&, const ScaledValues& in) {
    const int j = softmax_gradient_exponent(s.b.shape(in[0].data)[1]);
    const CrossEntropyGrad op{s.offset(in[0], "cross_entropy_grad"), -j};
    const Scaled &weight = in[3], &dloss = in[4];
    const Values split = s.b.emit(SplitPower{}, {weight.data, dloss.data});
    const Value dx = s.b.one(op, {in[0].data, in[1].data, in[2].data, weight.data, split[0]});
    const Exponent k = product(s, product(s, weight.scale, dloss.scale), {.base = split[1]});
    return {{dx, shifted(k, j)}};
}

constexpr RulesFor<CrossEntropyGrad> kCrossEntropyGrad{
    .type = type, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const CrossEntropyGrad&) { return kRules<kCrossEntropyGrad>; }

}  // namespace octavo
