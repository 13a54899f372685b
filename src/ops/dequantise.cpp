// y = code * scale, the product in f32, then rounded to dtype `to`; in micro groups
// (code * 2^n) * scale, the first product exact.
//     x codes under scales of any granularity but expanded -> y (shape of x), float without scales
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Dequantise& op, Operands in) {
    in.expect_count(1);
    const Granularity g = in[0].scaling.granularity;
    const bool scaled = g != Granularity::none && g != Granularity::expanded;
    check(scaled && is_float(in[0].dtype),
          "dequantise: operand 0 must hold codes under scales, got {}", to_string(in[0]));
    check(is_float(op.to) && !is_fp8(op.to), "dequantise: expected f64, f32, bf16 or f16, got {}",
          name(op.to));
    return {{op.to, in[0].shape}};
}

constexpr RulesFor<Dequantise> kDequantise{.type = type};

}  // namespace

const Rules& rules(const Dequantise&) { return kRules<kDequantise>; }

}  // namespace octavo
