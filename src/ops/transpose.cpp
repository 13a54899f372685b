// y = x^T, x seen as a matrix: all dimensions but the last are its rows.
//     x (..., N) with M rows, plain, under one scale or one per 128 x 128 block
//         -> y (N, M) of x's dtype and scales
//     batched: x (E, M, N) -> y (E, N, M); blocks of scales must not reach across matrices
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Transpose& op, Operands in) {
    in.expect_count(1);
    const Type& x = in[0];
    check(is_float(x.dtype), "transpose: expected floating-point elements, got {}", to_string(x));
    check(x.shape.rank() >= 2, "transpose: expected at least 2 dimensions, got {}", to_string(x));
    const Granularity g = x.scaling.granularity;
    check(g == Granularity::none || g == Granularity::tensor || g == Granularity::block_128x128,
          "transpose: expected plain values, one scale per tensor or per 128x128 block, got {}\n"
          "  Quantise the transpose: the other scales run along rows.",
          to_string(x));
    if (!op.batched) return {{x.dtype, {x.shape.last(), x.shape.rows()}, x.scaling}};
    in.expect_rank(0, 3);
    const std::int64_t m = x.shape[1], n = x.shape[2];
    check(g != Granularity::block_128x128 || (m % kScaleBlock == 0 && n % kScaleBlock == 0),
          "transpose: expected matrices of whole 128x128 blocks, got {}", to_string(x));
    return {{x.dtype, {x.shape[0], n, m}, x.scaling}};
}

Values vjp(Builder& b, const Transpose& op, const Values& in, const Values&, const Values& dout) {
    return {b.reshape(b.one(op, {dout[0]}), b.shape(in[0]))};
}

ScaledValues scale(ScaleBuilder& s, const Transpose& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<Transpose> kTranspose{.type = type, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const Transpose&) { return kRules<kTranspose>; }

}  // namespace octavo
