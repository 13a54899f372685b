// a = max |x|: 0 when x is empty, NaN if any element is NaN, else inf if any is infinite.
//     x any float, plain or under one scale (then |code * scale|, in f32) -> a (1) in f32
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Amax&, Operands in) {
    in.expect_count(1);
    expect_float_or_scaled(in, 0);
    return {{Dtype::f32, {1}}};
}

constexpr RulesFor<Amax> kAmax{.type = type};

}  // namespace

const Rules& rules(const Amax&) { return kRules<kAmax>; }

}  // namespace octavo
