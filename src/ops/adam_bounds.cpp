// How large AdamW's moments can have become, for scales that follow from the scales of gradients
// alone (arXiv 2407.17353). With a gradient of about e = 2^floor(log2(scale * factor)):
//     L_m' = max(beta1 L_m, sqrt((1 - beta1) / (1 + beta1)) e),   L_v' = max(beta2 L_v, e^2)
//     bounds (2) f32 = {L_m, L_v}, scale (1), factor (1) f32 -> bounds'
//
// The root is what averaging leaves of the size of independent gradients. If factor is infinite or
// NaN, AdamW skips the step, and the bounds stay.
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const AdamBounds&, Operands in) {
    in.expect_count(3);
    in.expect_dtype(0, Dtype::f32);
    in.expect_shape(0, {2});
    expect_scalar(in, 1, Dtype::f32);
    expect_scalar(in, 2, Dtype::f32);
    return {in[0]};
}

constexpr RulesFor<AdamBounds> kAdamBounds{.type = type, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const AdamBounds&) { return kRules<kAdamBounds>; }

}  // namespace octavo
