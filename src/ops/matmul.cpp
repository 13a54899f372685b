// c = op(a) op(b), plus acc with `accumulate`, summed in f32 (f64 if an operand or `out` is f64).
// Operands of a higher rank count as matrices: all dimensions but the last are rows.
//     a (..., M, K), or (..., K, M) with trans_a
//     b (K, N), or (N, K) with trans_b; its rows, too, may be spread over several dimensions
//     a, b: plain f64, f32, bf16, f16, or e4m3, e5m2 with one scale per tensor; acc: like c
//         -> c of dtype `out`: a's shape with N in K's place, or (M, N) with trans_a
#include "graph/builder.h"

namespace octavo {
namespace {

void expect_operand(const Operands& in, std::size_t i) {
    const Type& t = in[i];
    check(is_float(t.dtype) && t.scaling == (is_fp8(t.dtype) ? kPerTensor : kUnscaled),
          "matmul: operand {} must be plain f64, f32, bf16 or f16, or e4m3 or e5m2 with one f32 "
          "scale per tensor, got {}",
          i, to_string(t));
    check(t.shape.rank() >= 2, "matmul: operand {} must have at least 2 dimensions, got {}", i,
          to_string(t));
}

Types type(const Matmul& op, Operands in) {
    in.expect_count(op.accumulate ? 3 : 2);
    expect_operand(in, 0);
    expect_operand(in, 1);
    check(is_float(op.out) && !is_fp8(op.out),
          "matmul: expected a result of f64, f32, bf16 or f16, got {}\n"
          "  Quantise the result with an op of its own.",
          name(op.out));

    const Shape &a = in[0].shape, &b = in[1].shape;
    const std::int64_t a_k = op.trans_a ? a.rows() : a.last();
    const std::int64_t b_k = op.trans_b ? b.last() : b.rows();
    check(a_k == b_k, "matmul: K of both operands must agree, got {} and {} from {}{} and {}{}",
          a_k, b_k, to_string(in[0]), op.trans_a ? " transposed" : "", to_string(in[1]),
          op.trans_b ? " transposed" : "");

    const std::int64_t n = op.trans_b ? b.rows() : b.last();
    Shape shape{a.last(), n};
    if (!op.trans_a) {
        shape = a;
        shape[-1] = n;
    }
    if (op.accumulate) {
        in.expect_dtype(2, op.out);
        in.expect_shape(2, shape);
    }
    return {{op.out, shape}};
}

// c = a b:  da = dc b^T,  db = a^T dc.    c = a b^T:  da = dc b,  db = dc^T a.
Values vjp(Builder& b, const Matmul& op, const Values& in, const Values&, const Values& dout) {
    check(!op.trans_a && !op.accumulate,
          "matmul: no gradient with a transposed first operand or an accumulator");
    for (Value v : in) {
        check(b.type(v).scaling == kUnscaled,
              "matmul: no gradient for the scaled operand {}\n"
              "  Quantise after differentiating, as recipes do.",
              to_string(b.type(v)));
    }
    const bool plain = op.kind == MatmulKind::plain;
    const Matmul dgrad{.trans_b = !op.trans_b,
                       .kind = plain ? MatmulKind::plain : MatmulKind::dgrad,
                       .out = b.dtype(in[0])};
    const Matmul wgrad{.trans_a = true,
                       .kind = plain ? MatmulKind::plain : MatmulKind::wgrad,
                       .out = accumulator(b.dtype(in[1]))};
    const Value dc = dout[0];
    const Value db = b.one(wgrad, op.trans_b ? Values{dc, in[0]} : Values{in[0], dc});
    return {b.one(dgrad, {dc, in[1]}), b.reshape(db, b.shape(in[1]))};
}

constexpr RulesFor<Matmul> kMatmul{.type = type, .vjp = vjp, .in_place = {{{0, 2}}}};

}  // namespace

const Rules& rules(const Matmul&) { return kRules<kMatmul>; }

}  // namespace octavo
