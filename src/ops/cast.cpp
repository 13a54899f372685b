// y = x 2^exponent in another float dtype, rounded once and saturating, without a scale of its own;
// with `transpose` also y^T, y seen as a matrix: all dimensions but the last are its rows.
//     the operands of the source op (`of`; the value itself: x, any float without scales); its
//     results x (..., N), plain -> for each: y like x, [y^T (N, M)]
//
// Results of the source are rounded to its dtype before they are cast, as if they had been written.
//
// The gradient is cast back to x's dtype. It comes in that dtype already where a weight is cast for
// a product: products give weight gradients in f32, the dtype of the master weight.
#include "graph/scaled.h"
#include "ops/delayed_quantise.h"

namespace octavo {
namespace {

Types values_of(const Cast& op, const Operands& in) {
    if (const std::optional<Op> source = source_op(op.of, op.source_exponent)) {
        return rules_of(*source).type(*source, in.first(op_name(*source), in.size()));
    }
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Types type(const Cast& op, Operands in) {
    check(is_float(op.to), "cast: expected a float dtype to cast to, got {}", name(op.to));
    Types out;
    for (const Type& x : values_of(op, in)) {
        out.push_back({op.to, x.shape});
        if (!op.transpose) continue;
        check(x.shape.rank() >= 2, "cast: expected a matrix to transpose, got {}", to_string(x));
        out.push_back({op.to, {x.shape.last(), x.shape.rows()}});
    }
    return out;
}

Values decompose(Builder& b, const Cast& op, const Values& in) {
    const std::optional<Op> source = source_op(op.of, op.source_exponent);
    if (!source && !op.transpose) return {};
    const Values x = source ? b.emit(*source, in) : in;
    Values out;
    for (std::size_t k = 0; k < x.size(); ++k) {
        out.push_back(b.one(Cast{.to = op.to, .exponent = cast_exponent(op, k)}, {x[k]}));
        if (op.transpose) out.push_back(b.one(Transpose{}, {out.back()}));
    }
    return out;
}

Values vjp(Builder& b, const Cast& op, const Values& in, const Values&, const Values& dout) {
    check(op == Cast{op.to} && !is_fp8(op.to),
          "cast: no gradient through an 8-bit format, a factor, a transpose or a source");
    return {b.cast(dout[0], b.dtype(in[0]))};
}

// Brings data to its size on the way.
ScaledValues scale(ScaleBuilder& s, const Cast& op, const ScaledValues& in) {
    check(in.size() == 1 && !op.transpose, "cast: scales are propagated before casts are fused");
    const Scaled& x = in[0];
    const bool known = !x.scale.any && x.scale.base == x.size.base;
    Cast cast = op;
    if (known) cast.exponent += x.scale.offset - x.size.offset;
    return {{cast_data(s.b, cast, x.data, s.options.nan_casts), known ? x.size : x.scale}};
}

constexpr RulesFor<Cast> kCast{.type = type, .decompose = decompose, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const Cast&) { return kRules<kCast>; }

}  // namespace octavo
