// y = value, everywhere.     y: any unscaled f64, f32, bf16 or f16 type
#include <cmath>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Constant& op, Operands in) {
    in.expect_count(0);
    check(is_float(op.type.dtype) && !is_fp8(op.type.dtype) && op.type.scaling == kUnscaled,
          "constant: expected an unscaled f64, f32, bf16 or f16 type, got {}", to_string(op.type));
    return {op.type};
}

// m 2^k, 1 <= |m| < 2.
ScaledValues scale(ScaleBuilder& s, const Constant& op, const ScaledValues&) {
    if (op.value == 0 || !std::isfinite(op.value)) return {{s.b.one(op, {}), {.any = true}}};
    const int k = floor_log2(op.value);
    return {{s.b.constant(op.type, std::ldexp(op.value, -k)), {.offset = k}}};
}

constexpr RulesFor<Constant> kConstant{.type = type, .scale = scale};

}  // namespace

const Rules& rules(const Constant&) { return kRules<kConstant>; }

}  // namespace octavo
