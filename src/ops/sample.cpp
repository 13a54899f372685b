// Draws a token for each row of logits (arXiv 2601.18150's rollout; vLLM's order of cuts): z / T;
// top-k keeps z >= the k-th largest; top-p then keeps the tokens whose strictly better ranked mass
// (z descending, id ascending) is below p. The token is the first kept id, ascending, whose running
// sum of exp(z - max) exceeds u times the whole, u = ((random >> 8) + 0.5) 2^-24. Its
// log-probability is that of the distribution it was drawn from. Sums are exact, of exponentials in
// units of 2^-44 (base/sample_rule.h): the token is the same on every backend.
//     logits (R, V) f32, V <= 2^19
//     reals (R, 2) f32: temperature >= 0, top-p in (0, 1]
//     integers (R, 4) i32: top-k (0: all); ids that are tokens, in [1, V] (the rest is padding);
//         random bits; a token that is not drawn but only scored, or -1
//         -> token (R) i32, log-probability (R) f32
// At T = 0 the token is the most likely one, the lowest id among equals. The distribution is one
// point then, and its log-probabilities would say nothing: they are the model's own, of T = 1
// without cuts. A given token has log-probability -infinity where it was cut or is padding. A row
// with logits that are not finite, or become so when the largest is divided by T, has token -1 and
// log-probability NaN.
#include "base/sample_rule.h"
#include "graph/rules.h"

namespace octavo {
namespace {

Types type(const Sample&, Operands in) {
    in.expect_count(3);
    in.expect_dtype(0, Dtype::f32);
    in.expect_rank(0, 2);
    const std::int64_t rows = in[0].shape[0], vocabulary = in[0].shape[1];
    check(vocabulary <= kMostLogits, "sample: expected at most {} logits a row, got {}",
          kMostLogits, vocabulary);
    in.expect_dtype(1, Dtype::f32);
    in.expect_shape(1, {rows, 2});
    in.expect_dtype(2, Dtype::i32);
    in.expect_shape(2, {rows, 4});
    return {{Dtype::i32, {rows}}, {Dtype::f32, {rows}}};
}

constexpr RulesFor<Sample> kSample{.type = type};

}  // namespace

const Rules& rules(const Sample&) { return kRules<kSample>; }

}  // namespace octavo
