// y = sqrt(sum of the squares of all elements of all operands).
//     any number of float tensors, plain or under one scale (decoded in f32) -> y (1) f32
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const GlobalNorm&, Operands in) {
    check(in.size() > 0, "global_norm takes one operand or more, got none");
    for (std::size_t i = 0; i < in.size(); ++i) expect_float_or_scaled(in, i);
    return {{Dtype::f32, {1}}};
}

constexpr RulesFor<GlobalNorm> kGlobalNorm{.type = type};

}  // namespace

const Rules& rules(const GlobalNorm&) { return kRules<kGlobalNorm>; }

}  // namespace octavo
