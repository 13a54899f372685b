// y = a 2^a_exponent + b 2^b_exponent, element by element.     a, b, y: same type, float
#include <algorithm>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Add&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

Values vjp(Builder&, const Add& op, const Values&, const Values&, const Values& dout) {
    check(op == Add{}, "add: no gradient with exponents");
    return {dout[0], dout[0]};
}

// Under the larger size: sqrt(4^a + 4^b) lies below twice the larger of 2^a and 2^b.
ScaledValues scale(ScaleBuilder& s, const Add&, const ScaledValues& in) {
    const Scaled &x = in[0], &y = in[1];
    if (x.scale.any || y.scale.any) {  // zeros
        const Scaled& other = x.scale.any ? y : x;
        return {{s.b.add(x.data, y.data), other.scale, other.size}};
    }
    const Value base = x.size.base;
    if (x.scale.base == base && y.scale.base == base && y.size.base == base) {
        const int z = std::max(x.size.offset, y.size.offset);
        const Add op{x.scale.offset - z, y.scale.offset - z};
        return {{s.b.one(op, {x.data, y.data}), {z, base}}};
    }
    const auto of_base = [&](const Exponent& e) { return s.scale_value({.base = e.base}); };
    const ScaledAdd op{x.scale.offset, y.scale.offset, x.size.offset, y.size.offset};
    const Values sum = s.b.emit(
        op, {x.data, of_base(x.scale), y.data, of_base(y.scale), of_base(x.size), of_base(y.size)});
    return {{sum[0], {.base = sum[1]}}};
}

constexpr RulesFor<Add> kAdd{
    .type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const Add&) { return kRules<kAdd>; }

}  // namespace octavo
