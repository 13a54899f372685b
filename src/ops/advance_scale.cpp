// Ends an optimizer step of a delayed scale (FP8-LM, arXiv 2310.18313), in this order:
//     1. a non-finite slot 0 becomes 0
//     2. scale' = the scale for the maximum over all slots, or `scale` if that is no basis for one
//     3. the history shifts by one, slot 0 becomes 0
//     4. counter' = counter + 1, or 0 after a non-finite slot: the next W steps scale just in time
//     history (W) f32, counter (1) i32, scale (1) f32 -> history', counter', scale'
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const AdvanceScale& op, Operands in) {
    in.expect_count(3);
    expect_history("advance_scale", in, 0);
    expect_scalar(in, 1, Dtype::i32);
    expect_scalar(in, 2, Dtype::f32);
    scaled_type("advance_scale", op.rule.to, {});
    return {in[0], in[1], in[2]};
}

constexpr RulesFor<AdvanceScale> kAdvanceScale{.type = type,
                                               .in_place = {{{0, 0}, {1, 1}, {2, 2}}}};

}  // namespace

const Rules& rules(const AdvanceScale&) { return kRules<kAdvanceScale>; }

}  // namespace octavo
