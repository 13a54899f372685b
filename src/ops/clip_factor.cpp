// What gradients of this norm are multiplied by: min(1, max_norm / (norm + 1e-6)), as
// torch.nn.utils.clip_grad_norm_ has it; 1 if max_norm <= 0 (no clipping).
//     norm (1) f32 -> y (1) f32
//
// An infinite or NaN norm gives NaN, on which AdamW skips the step.
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const ClipFactor&, Operands in) {
    in.expect_count(1);
    in.expect_dtype(0, Dtype::f32);
    in.expect_shape(0, {1});
    return {in[0]};
}

constexpr RulesFor<ClipFactor> kClipFactor{.type = type};

}  // namespace

const Rules& rules(const ClipFactor&) { return kRules<kClipFactor>; }

}  // namespace octavo
