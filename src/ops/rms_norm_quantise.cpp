// Codes of a norm that is read nowhere else: block_quantise of rms_norm's y, which is rounded to
// x's dtype first as if it had been written.
//     x (..., C), w (C) of f32 (f64 for f64 x) -> codes like block_quantise's of y
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const RmsNormQuantise& op, Operands in) {
    in.expect_count(2);
    check(op.quantise.of == QuantiseSource::value && op.quantise.copies == Copies::rows,
          "rms_norm_quantise: it quantises y, by rows alone");
    const Types operands{in[0], in[1]};
    const RmsNorm norm{op.eps};
    const Type y = rules_of(norm).type(norm, Operands("rms_norm", operands))[0];
    return rules_of(op.quantise).type(op.quantise, Operands("block_quantise", {&y, 1}));
}

Values decompose(Builder& b, const RmsNormQuantise& op, const Values& in) {
    const Value rstd = b.one(RmsNorm{op.eps, /*statistics=*/true}, in);
    BlockQuantise quantise = op.quantise;
    quantise.of = QuantiseSource::normalise;
    return b.emit(quantise, {in[0], in[1], rstd});
}

constexpr RulesFor<RmsNormQuantise> kRmsNormQuantise{.type = type, .decompose = decompose};

}  // namespace

const Rules& rules(const RmsNormQuantise&) { return kRules<kRmsNormQuantise>; }

}  // namespace octavo
