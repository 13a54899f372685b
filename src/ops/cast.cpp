// y = x 2^exponent in another float dtype, rounded once and saturating, without a scale of its own;
// with `transpose` also y^T, y seen as a matrix: all dimensions but the last are its rows.
//     x (..., N), plain -> y like x, [y^T (N, M)]
//
// The gradient is cast back to x's dtype. It comes in that dtype already where a weight is cast for
// a product: products give weight gradients in f32, the dtype of the master weight.
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Cast& op, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    check(is_float(op.to), "cast: expected a float dtype to cast to, got {}", name(op.to));
    if (!op.transpose) return {{op.to, in[0].shape}};
    check(in[0].shape.rank() >= 2, "cast: expected a matrix to transpose, got {}",
          to_string(in[0]));
    return {{op.to, in[0].shape}, {op.to, {in[0].shape.last(), in[0].shape.rows()}}};
}

Values decompose(Builder& b, const Cast& op, const Values& in) {
    if (!op.transpose) return {};
    const Value y = b.one(Cast{.to = op.to, .exponent = op.exponent}, in);
    return {y, b.one(Transpose{}, {y})};
}

Values vjp(Builder& b, const Cast& op, const Values& in, const Values&, const Values& dout) {
    check(op.exponent == 0 && !op.transpose && !is_fp8(op.to),
          "cast: no gradient through an 8-bit format, a factor or a transpose");
    return {b.cast(dout[0], b.dtype(in[0]))};
}

// Brings data to its size on the way.
ScaledValues scale(ScaleBuilder& s, const Cast& op, const ScaledValues& in) {
    const Scaled& x = in[0];
    const bool known = !x.scale.any && x.scale.base == x.size.base;
    Cast cast = op;
    if (known) cast.exponent += x.scale.offset - x.size.offset;
    return {{s.b.one(cast, {x.data}), known ? x.size : x.scale}};
}

constexpr RulesFor<Cast> kCast{.type = type, .decompose = decompose, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const Cast&) { return kRules<kCast>; }

}  // namespace octavo
