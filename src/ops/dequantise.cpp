// y = code * scale, the product in f32, then rounded to dtype `to`.
//     x codes under one scale -> y (shape of x), float without scales
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Dequantise& op, Operands in) {
    in.expect_count(1);
    expect_scaled("dequantise", in, 0);
    check(is_float(op.to) && !is_fp8(op.to), "dequantise: expected f64, f32, bf16 or f16, got {}",
          name(op.to));
    return {{op.to, in[0].shape}};
}

constexpr RulesFor<Dequantise> kDequantise{.type = type};

}  // namespace

const Rules& rules(const Dequantise&) { return kRules<kDequantise>; }

}  // namespace octavo
