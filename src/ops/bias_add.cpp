// y = x 2^x_exponent + b 2^bias_exponent, the same b for each row.
//        x (..., N), b (N) of f32 (f64 for f64 x), y like x
#include <algorithm>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const BiasAdd&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_dtype(1, accumulator(in[0].dtype));
    in.expect_shape(1, {in[0].shape.last()});
    return {in[0]};
}

Values vjp(Builder& b, const BiasAdd& op, const Values&, const Values&, const Values& dout) {
    check(op == BiasAdd{}, "bias_add: no gradient with exponents");
    return {dout[0], b.one(SumRows{}, {dout[0]})};
}

// As Add.
ScaledValues scale(ScaleBuilder& s, const BiasAdd&, const ScaledValues& in) {
    const Scaled &x = in[0], &bias = in[1];
    Exponent z = x.scale.any ? bias.size : x.size;
    check(x.scale.any || bias.scale.any || (x.scale.base == z.base && bias.scale.base == z.base),
          "bias_add '{}': its operands have scales that depend on different numbers of the step",
          s.b.label());
    if (!x.scale.any && !bias.scale.any) z.offset = std::max(x.size.offset, bias.size.offset);
    const auto exponent = [&](const Scaled& v) {
        return v.scale.any ? 0 : v.scale.offset - z.offset;
    };
    const BiasAdd op{exponent(x), exponent(bias)};
    return {{s.b.one(op, {x.data, bias.data}), z}};
}

constexpr RulesFor<BiasAdd> kBiasAdd{
    .type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const BiasAdd&) { return kRules<kBiasAdd>; }

}  // namespace octavo
