// The scale of a tensor that follows a window of past amaxes (FP8-LM, arXiv 2310.18313), and the
// note of its amax. While counter < W the window is not filled and the scale comes just in time:
//     used = counter < W ? the scale for this amax, or `scale` if it is no basis for one : scale
//     history'[0] = max(history[0], amax), where NaN counts as infinity
// Slot 0 collects all micro-batches of a step; AdvanceScale ends the step.
//     amax (1), history (W) f32, counter (1) i32, scale (1) -> used (1), history'
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const DelayedScale& op, Operands in) {
    in.expect_count(4);
    expect_scalar(in, 0, Dtype::f32);
    expect_history("delayed_scale", in, 1);
    expect_scalar(in, 2, Dtype::i32);
    expect_scalar(in, 3, Dtype::f32);
    scaled_type("delayed_scale", op.rule.to, {});
    return {in[3], in[1]};
}

constexpr RulesFor<DelayedScale> kDelayedScale{.type = type, .in_place = {{{1, 1}}}};

}  // namespace

const Rules& rules(const DelayedScale&) { return kRules<kDelayedScale>; }

}  // namespace octavo
