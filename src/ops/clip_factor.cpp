// What gradients of this norm are multiplied by: min(1, max_norm / (norm + 1e-6)), as
// torch.nn.utils.clip_grad_norm_ has it; 1 if max_norm <= 0 (no clipping).
//     norm (1) f32 -> y (1) f32
//     norm, s_1, ..., s_n (1) f32 -> y, y s_1, ..., y s_n: with `scaled`
//
// An infinite or NaN norm gives NaN, on which AdamW skips the step.
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const ClipFactor& op, Operands in) {
    in.expect_count(1, op.scaled ? in.size() : 1);
    for (std::size_t i = 0; i < in.size(); ++i) expect_scalar(in, i, Dtype::f32);
    return Types(in.size(), in[0]);
}

constexpr RulesFor<ClipFactor> kClipFactor{.type = type};

}  // namespace

const Rules& rules(const ClipFactor&) { return kRules<kClipFactor>; }

}  // namespace octavo
