// y = value, everywhere.     y: any unscaled f64, f32, bf16 or f16 type
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Constant& op, Operands in) {
    in.expect_count(0);
    check(is_float(op.type.dtype) && !is_fp8(op.type.dtype) && op.type.scaling == kUnscaled,
          "constant: expected an unscaled f64, f32, bf16 or f16 type, got {}", to_string(op.type));
    return {op.type};
}

constexpr RulesFor<Constant> kConstant{.type = type};

}  // namespace

const Rules& rules(const Constant&) { return kRules<kConstant>; }

}  // namespace octavo
