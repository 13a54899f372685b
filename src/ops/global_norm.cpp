// y = sqrt(sum of the squares of all elements of all operands).
//     any number of float tensors, plain or under one scale (decoded in f32) -> y (1) f32
//
// With `scaled`, as many scales (1) f32 follow as there are tensors, which are plain then, and may
// be e4m3 or e5m2.
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const GlobalNorm& op, Operands in) {
    check(in.size() > 0, "global_norm takes one operand or more, got none");
    check(!op.scaled || in.size() % 2 == 0, "global_norm: expected a scale for each tensor, got {}",
          in.size());
    const std::size_t tensors = op.scaled ? in.size() / 2 : in.size();
    for (std::size_t i = 0; i < tensors; ++i) {
        if (!op.scaled) expect_float_or_scaled(in, i);
        if (op.scaled) expect_code(in, i);
    }
    for (std::size_t i = tensors; i < in.size(); ++i) expect_scalar(in, i, Dtype::f32);
    return {{Dtype::f32, {1}}};
}

constexpr RulesFor<GlobalNorm> kGlobalNorm{.type = type};

}  // namespace

const Rules& rules(const GlobalNorm&) { return kRules<kGlobalNorm>; }

}  // namespace octavo
