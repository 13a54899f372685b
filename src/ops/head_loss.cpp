// The head of a language model, its loss and both gradients at once, `chunk` rows at a time, so
// that the logits never exist as a whole:
//     logits = x w^T,   loss as CrossEntropy,   dx = dlogits w,   dw = dlogits^T x (+ acc)
// Logits and dlogits are rounded to x's dtype; dw is summed in f32 (f64 for f64 x).
//     x (M, C), w (V, C), or (C, V) without trans_b, in x's dtype, targets (M) i32, weight (1),
//     dloss (1), acc like dw with `accumulate`
//         -> loss (1), dx like x, dw (shape of w) in f32 (f64)
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const HeadLoss& op, Operands in) {
    in.expect_count(op.accumulate ? 6 : 5);
    in.expect_float(0);
    in.expect_rank(0, 2);
    const Dtype dtype = in[0].dtype, sum = accumulator(dtype);
    in.expect_dtype(1, dtype);
    in.expect_rank(1, 2);
    const int c = op.trans_b ? 1 : 0;
    check(in[1].shape[c] == in[0].shape[1],
          "head_loss: dimension {} of the weight must be x's last, {}, got {}", c, in[0].shape[1],
          to_string(in[1]));
    in.expect_dtype(2, Dtype::i32);
    in.expect_shape(2, {in[0].shape[0]});
    expect_scalar(in, 3, sum);
    expect_scalar(in, 4, sum);
    if (op.accumulate) {
        in.expect_dtype(5, sum);
        in.expect_shape(5, in[1].shape);
    }
    check(op.chunk >= 1, "head_loss: expected a chunk of at least 1 row, got {}", op.chunk);
    return {in[3], in[0], {sum, in[1].shape}};
}

Values decompose(Builder& b, const HeadLoss& op, const Values& in) {
    const Value x = in[0], w = in[1], targets = in[2], weight = in[3], dloss = in[4];
    const Dtype dtype = b.dtype(x);
    const Matmul fprop{.trans_b = op.trans_b, .kind = MatmulKind::fprop, .out = dtype};
    const Matmul dgrad{.trans_b = !op.trans_b, .kind = MatmulKind::dgrad, .out = dtype};
    const Matmul wgrad{.trans_a = true,
                       .kind = MatmulKind::wgrad,
                       .out = accumulator(dtype),
                       .accumulate = op.accumulate};

    const Value logits = b.one(fprop, {x, w});                              // (M, V)
    const Values loss = b.emit(CrossEntropy{}, {logits, targets, weight});  // (1), (M)
    const Value dlogits =
        b.one(CrossEntropyGrad{}, {logits, targets, loss[1], weight, dloss});  // (M, V)
    Values dw_in = op.trans_b ? Values{dlogits, x} : Values{x, dlogits};
    if (op.accumulate) dw_in.push_back(in[5]);
    return {loss[0], b.one(dgrad, {dlogits, w}), b.one(wgrad, std::move(dw_in))};
}

// dx may take x's place: a chunk's rows of x are read for the last time before dx is written there.
constexpr RulesFor<HeadLoss> kHeadLoss{
    .type = type, .decompose = decompose, .in_place = {{{1, 0}, {2, 5}}}};

}  // namespace

const Rules& rules(const HeadLoss&) { return kRules<kHeadLoss>; }

}  // namespace octavo
