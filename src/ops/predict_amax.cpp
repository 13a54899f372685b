// A bound on max |w| that follows the optimizer instead of the weights (MOSS, arXiv 2511.05811,
// section 3.3): no AdamW step moves an element by more than bound * learning rate, before it is
// rounded to the master's dtype.
//     p (1) f32, schedule (3) f32 = {lr, ...} and factor (1) f32 as AdamW has them
//         -> p' (1) f32 = RN(p + RN(bound * lr)); p if the step is skipped (factor infinite or NaN)
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const PredictAmax&, Operands in) {
    in.expect_count(3);
    expect_scalar(in, 0, Dtype::f32);
    in.expect_dtype(1, Dtype::f32);
    in.expect_shape(1, {3});
    expect_scalar(in, 2, Dtype::f32);
    return {in[0]};
}

constexpr RulesFor<PredictAmax> kPredictAmax{.type = type, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const PredictAmax&) { return kRules<kPredictAmax>; }

}  // namespace octavo
