// The scale for a tensor with this amax (base/scale.h); the old one where amax is 0, below 2^-126,
// infinite or NaN.
//     amax (1), old scale (1) -> scale (1), all f32
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const ComputeScale& op, Operands in) {
    in.expect_count(2);
    expect_scalar(in, 0, Dtype::f32);
    expect_scalar(in, 1, Dtype::f32);
    scaled_type("compute_scale", op.rule.to, {});
    return {in[1]};
}

constexpr RulesFor<ComputeScale> kComputeScale{.type = type, .in_place = {{{0, 1}, {0, 0}}}};

}  // namespace

const Rules& rules(const ComputeScale&) { return kRules<kComputeScale>; }

}  // namespace octavo
