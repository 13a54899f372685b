// The sum of two values of data x scale, where the scales are known to the device only:
//     z s = a a_scale 2^a_exponent + b b_scale 2^b_exponent,
//     s = max(a_size 2^op.a_size, b_size 2^op.b_size)
//     a, a_scale, b, b_scale, a_size, b_size -> z, s; with `cast` also its results for z
//     a, b, z of one type, float; scales and sizes (1) f32, powers of two
//
// Computed in f32 (f64 for f64), rounded once. Both factors to s are kept within f32's normal
// range.
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const ScaledAdd& op, Operands in) {
    in.expect_count(6);
    in.expect_float(0);
    in.expect_like(2, 0);
    for (const std::size_t i : {1, 3, 4, 5}) expect_scalar(in, i, Dtype::f32);
    Types out{in[0], in[1]};
    if (!op.cast) return out;
    check(op.cast->of == QuantiseSource::value, "scaled_add: its cast has no source of its own");
    const Types codes = rules_of(*op.cast).type(*op.cast, in.first("cast", 1));
    out.insert(out.end(), codes.begin(), codes.end());
    return out;
}

Values decompose(Builder& b, const ScaledAdd& op, const Values& in) {
    if (!op.cast) return {};
    ScaledAdd sum = op;
    sum.cast.reset();
    Values out = b.emit(sum, in);
    const Values codes = b.emit(*op.cast, {out[0]});
    out.insert(out.end(), codes.begin(), codes.end());
    return out;
}

constexpr RulesFor<ScaledAdd> kScaledAdd{
    .type = type, .decompose = decompose, .in_place = {{{0, 0}, {0, 2}}}};

}  // namespace

const Rules& rules(const ScaledAdd&) { return kRules<kScaledAdd>; }

}  // namespace octavo
