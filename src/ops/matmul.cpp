// c = 2^exponent op(a) op(b), plus `bias` for each row, plus acc with `accumulate`, summed in f32
// (f64 if an operand or `out` is f64). Operands of a higher rank count as matrices: all dimensions
// but the last are rows.
//     a (..., M, K), or (..., K, M) with trans_a
//     b (K, N), or (N, K) with trans_b; its rows, too, may be spread over several dimensions
//     a, b: plain f64, f32, bf16, f16, e4m3, e5m2, or e4m3, e5m2 under scales
//     [bias (N) of dtype `out`], [acc like c]
//         -> c of dtype `out`: a's shape with N in K's place, or (M, N) with trans_a
//
// With `groups` = E, a product for each of E experts, of which expert e has the rows (with
// `group_k` the indices along K) from offsets[e] up to offsets[e + 1]. What follows after
// offsets[E] is not read; rows of c are those of acc there, or 0.
//     rows: a (R, K), b (E, K, N) or with trans_b (E, N, K), offsets (E + 1) i32, [acc]
//         -> c (R, N): c[r] = a[r] op(b[e])
//     k: a (M, R) or with trans_a (R, M), b (R, N) or with trans_b (N, R), offsets, [acc]
//         -> c (E, M, N): c[e] = op(a)[:, rows] op(b)[rows, :]
// Blocks of scales must not reach across experts: 128 x 128 blocks of b need matrices of whole
// blocks, and scales along R need offsets that are multiples of their length.
//
// Sums round to `out` once. Codes (e4m3, e5m2), which saturate, come from unscaled codes alone,
// without acc.
//
// Scales are one per tensor; or, for both operands together, per row and row (or tensor), 1x128 and
// 1x128 or 128x128, micro and micro (or tensor). Scales per row, 1x128 and micro belong to operands
// that are contiguous along K. With blocks, sums P over 128 elements (micro: a group) are promoted
// to f32, where they are scaled and added in ascending order:
//     blocks (arXiv 2412.19437, section 3.3)   acc = acc + P (s_a s_b)
//     micro (arXiv 2511.05811)                 acc = fma(2^(n_a + n_b), P, acc),  c = acc s_a s_b
// where a power of two below 2^-126 counts as zero.
#include "graph/scaled.h"

namespace octavo {
namespace {

void expect_operand(const Operands& in, std::size_t i, bool along_k) {
    const Type& t = in[i];
    const bool scaled = t.scaling.granularity != Granularity::none;
    check(is_float(t.dtype) && (!scaled || is_fp8(t.dtype)) && t.scaling.scale_dtype == Dtype::f32,
          "matmul: operand {} must be plain floats, or e4m3 or e5m2 under f32 scales, got {}", i,
          to_string(t));
    check(t.shape.rank() >= 2, "matmul: operand {} must have at least 2 dimensions, got {}", i,
          to_string(t));
    check(along_k || !scales_along_rows(t.scaling),
          "matmul: operand {} must be contiguous along K, as its scales are, got {}\n"
          "  Quantise the transpose.",
          i, to_string(t));
}

bool fit_together(const Scaling& a, const Scaling& b) {
    using enum Granularity;
    switch (a.granularity) {
        case row:
            return b.granularity == row || b.granularity == tensor;
        case block_1x128:
            return b.granularity == block_1x128 || b.granularity == block_128x128;
        case micro:
            return a == b || b.granularity == tensor;
        default:
            return false;
    }
}

void expect_pair(const Operands& in) {
    const Type &a = in[0], &b = in[1];
    if (!has_fine_scales(a) && !has_fine_scales(b)) return;
    check(fit_together(a.scaling, b.scaling) || fit_together(b.scaling, a.scaling),
          "matmul: no product of scales {} and {}\n"
          "  Scales per row go with rows or one per tensor, 1x128 with 1x128 or 128x128, micro "
          "groups with groups as long or one per tensor.",
          to_string(a), to_string(b));
    check(a.dtype != Dtype::e5m2 || b.dtype != Dtype::e5m2,
          "matmul: no product of e5m2 and e5m2 under scales per row or block, got {} and {}",
          to_string(a), to_string(b));
}

// The result's shape.
Shape grouped(const Matmul& op, const Operands& in) {
    check(!op.bias, "matmul: products of groups add no bias");
    in.expect_dtype(2, Dtype::i32);
    in.expect_shape(2, {op.groups + 1});
    in.expect_rank(0, 2);
    const Shape &a = in[0].shape, &b = in[1].shape;
    if (op.group_k) {
        in.expect_rank(1, 2);
        return {op.groups, a[op.trans_a ? 1 : 0], b[op.trans_b ? 0 : 1]};
    }
    in.expect_rank(1, 3);
    check(!op.trans_a && b[0] == op.groups,
          "matmul: expected rows of a, not transposed, and a stack of {} matrices, got {} and {}",
          op.groups, to_string(in[0]), to_string(in[1]));
    check(in[1].scaling.granularity != Granularity::block_128x128 ||
              (b[1] % kScaleBlock == 0 && b[2] % kScaleBlock == 0),
          "matmul: expected a stack of matrices of whole 128x128 blocks, got {}", to_string(in[1]));
    return {a[0], b[op.trans_b ? 1 : 2]};
}

// K and N of the product; of one expert's where groups are rows.
struct Extents {
    std::int64_t a_k, b_k, n;
};
Extents extents(const Matmul& op, const Shape& a, const Shape& b) {
    const std::int64_t a_k = op.trans_a ? a.rows() : a.last();
    if (op.groups > 0 && !op.group_k) return {a_k, b[op.trans_b ? 2 : 1], b[op.trans_b ? 1 : 2]};
    return {a_k, op.trans_b ? b.last() : b.rows(), op.trans_b ? b.rows() : b.last()};
}

Types type(const Matmul& op, Operands in) {
    in.expect_count(2 + std::size_t{op.groups > 0} + std::size_t{op.bias} +
                    std::size_t{op.accumulate});
    expect_operand(in, 0, !op.trans_a);
    expect_operand(in, 1, op.trans_b);
    expect_pair(in);
    const bool scaled = in[0].scaling != kUnscaled || in[1].scaling != kUnscaled;
    check(op.exponent == 0 || !scaled, "matmul: an exponent goes with unscaled operands, got {}",
          to_string(in[0]));
    const bool codes = is_fp8(in[0].dtype) && is_fp8(in[1].dtype) && !scaled && !op.accumulate;
    check(is_float(op.out) && (codes || !is_fp8(op.out)),
          "matmul: expected a result of f64, f32, bf16 or f16, got {}\n"
          "  Quantise the result with an op of its own.",
          name(op.out));

    const Shape &a = in[0].shape, &b = in[1].shape;
    const Shape of_groups = op.groups > 0 ? grouped(op, in) : Shape{};
    const auto [a_k, b_k, n] = extents(op, a, b);
    check(a_k == b_k, "matmul: K of both operands must agree, got {} and {} from {}{} and {}{}",
          a_k, b_k, to_string(in[0]), op.trans_a ? " transposed" : "", to_string(in[1]),
          op.trans_b ? " transposed" : "");

    Shape shape{a.last(), n};
    if (op.groups > 0) {
        shape = of_groups;
    } else if (!op.trans_a) {
        shape = a;
        shape[-1] = n;
    }
    if (op.bias) {
        in.expect_dtype(2, op.out);
        in.expect_shape(2, {n});
    }
    check(!op.bias || !is_fp8(op.out), "matmul: no bias with a result of {}", name(op.out));
    if (op.accumulate) {
        in.expect_dtype(in.size() - 1, op.out);
        in.expect_shape(in.size() - 1, shape);
    }
    return {{op.out, shape}};
}

// Without the bias, which the product rounds together with its sums: once, not twice.
Values decompose(Builder& b, const Matmul& op, const Values& in) {
    if (!op.bias) return {};
    Matmul product = op;
    product.bias = product.accumulate = false;
    const Value bias = b.cast(in[2], accumulator(op.out));
    const Value y = b.one(BiasAdd{}, {b.one(product, {in[0], in[1]}), bias});
    return {op.accumulate ? b.add(in[3], y) : y};
}

// c = a b:  da = dc b^T,  db = a^T dc.    c = a b^T:  da = dc b,  db = dc^T a.
Values vjp(Builder& b, const Matmul& op, const Values& in, const Values&, const Values& dout) {
    check(
        !op.trans_a && !op.bias && !op.accumulate && op.exponent == 0 && !op.group_k,
        "matmul: no gradient with a transposed first operand, a bias, an accumulator, an exponent "
        "or groups along K");
    for (Value v : {in[0], in[1]}) {
        check(b.type(v).scaling == kUnscaled,
              "matmul: no gradient for the scaled operand {}\n"
              "  Quantise after differentiating, as recipes do.",
              to_string(b.type(v)));
    }
    const bool plain = op.kind == MatmulKind::plain;
    const Matmul dgrad{.trans_b = !op.trans_b,
                       .kind = plain ? MatmulKind::plain : MatmulKind::dgrad,
                       .out = b.dtype(in[0]),
                       .groups = op.groups,
                       .alignment = op.alignment};
    const Matmul wgrad{.trans_a = true,
                       .kind = plain ? MatmulKind::plain : MatmulKind::wgrad,
                       .out = accumulator(b.dtype(in[1])),
                       .groups = op.groups,
                       .group_k = op.groups > 0,
                       .alignment = op.alignment};
    const Value dc = dout[0];
    Values for_a{dc, in[1]}, for_b = op.trans_b ? Values{dc, in[0]} : Values{in[0], dc};
    if (op.groups > 0) {
        for_a.push_back(in[2]);
        for_b.push_back(in[2]);
    }
    Values gradients{b.one(dgrad, for_a), b.reshape(b.one(wgrad, for_b), b.shape(in[1]))};
    gradients.resize(in.size());
    return gradients;
}

// The sum of K independent products grows by sqrt(K); what operands lack to their sizes goes into
// the same factor.
ScaledValues scale(ScaleBuilder& s, const Matmul& op, const ScaledValues& in) {
    check(op.groups == 0, "matmul '{}': scales do not pass through products of groups",
          s.b.label());
    check(!op.bias && !op.accumulate,
          "matmul '{}': scales are propagated before products add a bias or accumulate",
          s.b.label());
    const auto size = [](const Scaled& x) {
        return x.size.base == x.scale.base ? x.size : x.scale;
    };
    const Shape& b = s.b.shape(in[1].data);
    const int h = sum_exponent(op.trans_b ? b.last() : b.rows());
    const Exponent c = shifted(product(s, size(in[0]), size(in[1])), h);
    Matmul scaled = op;
    scaled.exponent = in[0].scale.offset + in[1].scale.offset - c.offset;
    return {{s.b.one(scaled, {in[0].data, in[1].data}), c}};
}

// An accumulator alone, or one that follows a bias or offsets.
constexpr RulesFor<Matmul> kMatmul{.type = type,
                                   .decompose = decompose,
                                   .vjp = vjp,
                                   .scale = scale,
                                   .in_place = {{{0, 2}, {0, 3}}}};

}  // namespace

const Rules& rules(const Matmul&) { return kRules<kMatmul>; }

}  // namespace octavo
