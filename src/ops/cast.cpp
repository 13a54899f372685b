// y = x in another plain float dtype, rounded once.     x, y: same shape
//
// The gradient is cast back to x's dtype. It comes in that dtype already where a weight is cast for
// a product: products give weight gradients in f32, the dtype of the master weight.
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Cast& op, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    check(is_float(op.to) && !is_fp8(op.to),
          "cast: expected f64, f32, bf16 or f16 to cast to, got {}\n"
          "  The 8-bit formats need a scale: use quantise.",
          name(op.to));
    return {{op.to, in[0].shape}};
}

Values vjp(Builder& b, const Cast&, const Values& in, const Values&, const Values& dout) {
    return {b.cast(dout[0], b.dtype(in[0]))};
}

constexpr RulesFor<Cast> kCast{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const Cast&) { return kRules<kCast>; }

}  // namespace octavo
