// The head of a language model, its loss and both gradients at once, `chunk` rows at a time, so
// that the logits never exist as a whole:
//     logits = x w^T,   loss as CrossEntropy,   dx = dlogits w,   dw = dlogits^T x (+ acc)
// Logits and dlogits are rounded to x's dtype; dw is summed in f32 (f64 for f64 x). `exponents` are
// those of the parts.
//     x (M, C), w (V, C), or (C, V) without trans_b, in x's dtype, targets (M) i32, weight (1),
//     dloss (1), acc like dw with `accumulate`
//         -> loss (1), dx like x, dw (shape of w) in f32 (f64)
//
// With `quantise`, x and w (V, C) are FP8 codes under one scale each, logits, dlogits and dx are of
// dtype `logits`, and dlogits are quantised as DelayedQuantise does it before the two products that
// read them; as long as the window of their amaxes is not filled, each chunk by its own.
//     x, w, targets, weight, dloss, history (W) f32, counter (1) i32, scale (1) f32, perhaps acc
//         -> loss, dx, dw, history', the scale used last (1)
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

// Where the delayed scale of dlogits stands.
constexpr std::size_t kHistory = 5;

std::size_t operand_count(const HeadLoss& op) {
    return (op.quantise ? kHistory + 3 : kHistory) + (op.accumulate ? 1 : 0);
}

void expect_plain(const Operands& in) {
    in.expect_float(0);
    in.expect_dtype(1, in[0].dtype);
}

void expect_quantised(const HeadLoss& op, const Operands& in) {
    for (const std::size_t i : {0, 1}) {
        expect_scaled("head_loss", in, i);
        check(is_fp8(in[i].dtype), "head_loss: operand {} must be e4m3 or e5m2, got {}", i,
              to_string(in[i]));
    }
    check(op.trans_b, "head_loss: FP8 products need a weight of (V, C)");
    expect_history("head_loss", in, kHistory);
    expect_scalar(in, kHistory + 1, Dtype::i32);
    expect_scalar(in, kHistory + 2, Dtype::f32);
}

Types type(const HeadLoss& op, Operands in) {
    in.expect_count(operand_count(op));
    if (op.quantise) {
        expect_quantised(op, in);
    } else {
        expect_plain(in);
    }
    in.expect_rank(0, 2);
    in.expect_rank(1, 2);
    const Dtype dtype = op.quantise ? op.logits : in[0].dtype, sum = accumulator(dtype);
    const int c = op.trans_b ? 1 : 0;
    check(in[1].shape[c] == in[0].shape[1],
          "head_loss: dimension {} of the weight must be x's last, {}, got {}", c, in[0].shape[1],
          to_string(in[1]));
    in.expect_dtype(2, Dtype::i32);
    in.expect_shape(2, {in[0].shape[0]});
    expect_scalar(in, 3, sum);
    expect_scalar(in, 4, sum);
    if (op.accumulate) {
        in.expect_dtype(in.size() - 1, sum);
        in.expect_shape(in.size() - 1, in[1].shape);
    }
    check(!op.quantise || op.exponents == HeadExponents{},
          "head_loss: exponents go with unscaled operands");
    check(op.chunk >= 1, "head_loss: expected a chunk of at least 1 row, got {}", op.chunk);
    Types out{in[3], {dtype, in[0].shape}, {sum, in[1].shape}};
    if (op.quantise) out.insert(out.end(), {in[kHistory], in[kHistory + 2]});
    return out;
}

Values decompose(Builder& b, const HeadLoss& op, const Values& in) {
    const Value x = in[0], w = in[1], targets = in[2], weight = in[3], dloss = in[4];
    const Dtype dtype = op.quantise ? op.logits : b.dtype(x);
    const HeadExponents& e = op.exponents;
    const Matmul fprop{
        .trans_b = op.trans_b, .kind = MatmulKind::fprop, .out = dtype, .exponent = e.fprop};
    const Matmul dgrad{
        .trans_b = !op.trans_b, .kind = MatmulKind::dgrad, .out = dtype, .exponent = e.dgrad};
    const Matmul wgrad{.trans_a = true,
                       .kind = MatmulKind::wgrad,
                       .out = accumulator(dtype),
                       .accumulate = op.accumulate,
                       .exponent = e.wgrad};

    const Value logits = b.one(fprop, {x, w});                                      // (M, V)
    const Values loss = b.emit(CrossEntropy{e.logits}, {logits, targets, weight});  // (1), (M)
    Value dlogits = b.one(CrossEntropyGrad{e.logits, e.gradient},
                          {logits, targets, loss[1], weight, dloss});  // (M, V)
    Values quantised;
    if (op.quantise) {
        quantised = b.emit(DelayedQuantise{*op.quantise},
                           {dlogits, in[kHistory], in[kHistory + 1], in[kHistory + 2]});
        dlogits = quantised[0];
    }
    Values dw_in = op.trans_b ? Values{dlogits, x} : Values{x, dlogits};
    if (op.accumulate) dw_in.push_back(in.back());
    Values out{loss[0], b.one(dgrad, {dlogits, w}), b.one(wgrad, std::move(dw_in))};
    if (op.quantise) out.insert(out.end(), {quantised[1], quantised[2]});
    return out;
}

// dx may take x's place: a chunk's rows of x are read for the last time before dx is written there.
constexpr RulesFor<HeadLoss> kHeadLoss{
    .type = type,
    .decompose = decompose,
    .in_place = {{{1, 0}, {2, kHistory}, {2, kHistory + 3}, {3, kHistory}}}};

}  // namespace

const Rules& rules(const HeadLoss&) { return kRules<kHeadLoss>; }

}  // namespace octavo
