// A copy of the scale of a tensor.     x codes under one scale -> s (1) f32
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const ScaleOf&, Operands in) {
    in.expect_count(1);
    expect_scaled("scale_of", in, 0);
    return {{Dtype::f32, {1}}};
}

constexpr RulesFor<ScaleOf> kScaleOf{.type = type};

}  // namespace

const Rules& rules(const ScaleOf&) { return kRules<kScaleOf>; }

}  // namespace octavo
