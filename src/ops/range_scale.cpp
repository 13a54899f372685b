// The scale under which a tensor's amax becomes `range`: amax / range, or 1 where the amax is 0, as
// a cache in FP8 is calibrated (vLLM's mechanism; arXiv 2601.18150). Infinite or NaN amaxes give
// themselves: whoever reads the scale reports them.
//     amax (1) f32 -> scale (1) f32
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const RangeScale& op, Operands in) {
    in.expect_count(1);
    expect_scalar(in, 0, Dtype::f32);
    check(op.range > 0, "range_scale: expected a range above 0, got {}", op.range);
    return {in[0]};
}

constexpr RulesFor<RangeScale> kRangeScale{.type = type, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const RangeScale&) { return kRules<kRangeScale>; }

}  // namespace octavo
