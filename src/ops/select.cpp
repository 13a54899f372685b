// y = mask != 0 ? a 2^a_exponent : b 2^b_exponent, element by element.
//     mask i32 of a's shape; a, b, y: same type, float
#include <algorithm>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Select&, Operands in) {
    in.expect_count(3);
    in.expect_float(1);
    in.expect_dtype(0, Dtype::i32);
    in.expect_shape(0, in[1].shape);
    in.expect_like(2, 1);
    return {in[1]};
}

Values vjp(Builder& b, const Select& op, const Values& in, const Values&, const Values& dout) {
    check(op == Select{}, "select: no gradient with exponents");
    const Value mask = in[0], dy = dout[0], zero = b.constant(b.type(dy), 0);
    return {{}, b.one(op, {mask, dy, zero}), b.one(op, {mask, zero, dy})};
}

// Under the larger size; zeros have any.
ScaledValues scale(ScaleBuilder& s, const Select&, const ScaledValues& in) {
    const Value mask = in[0].data;
    const Scaled &x = in[1], &y = in[2];
    if (x.scale.any || y.scale.any) {
        const Scaled& other = x.scale.any ? y : x;
        return {{s.b.one(Select{}, {mask, x.data, y.data}), other.scale, other.size}};
    }
    const Value base = x.size.base;
    check(x.scale.base == base && y.scale.base == base && y.size.base == base,
          "select '{}': its operands have scales that depend on different numbers of the step",
          s.b.label());
    const int z = std::max(x.size.offset, y.size.offset);
    const Select op{x.scale.offset - z, y.scale.offset - z};
    return {{s.b.one(op, {mask, x.data, y.data}), {z, base}}};
}

constexpr RulesFor<Select> kSelect{
    .type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 1}, {0, 2}}}};

}  // namespace

const Rules& rules(const Select&) { return kRules<kSelect>; }

}  // namespace octavo
