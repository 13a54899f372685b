// Gradient of CrossEntropy by its logits: dloss * weight * (softmax(logits) - onehot(target)), and
// 0 in the rows left out.
//     logits (M, V), targets (M) i32, lse (M), weight (1), dloss (1) -> dlogits like logits
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

constexpr RulesFor<CrossEntropyGrad> kCrossEntropyGrad{.type = type, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const CrossEntropyGrad&) { return kRules<kCrossEntropyGrad>; }

}  // namespace octavo
