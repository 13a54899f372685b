// y = 1 if every element of every operand is finite, else NaN: what is multiplied by it, or scaled
// with it, shows that something was not.
//     any number of f32 tensors -> y (1) f32
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Guard&, Operands in) {
    check(in.size() > 0, "guard takes one operand or more, got none");
    for (std::size_t i = 0; i < in.size(); ++i) {
        check(in[i].dtype == Dtype::f32 && in[i].scaling == kUnscaled,
              "guard: operand {} must be unscaled f32, got {}", i, to_string(in[i]));
    }
    return {{Dtype::f32, {1}}};
}

constexpr RulesFor<Guard> kGuard{.type = type};

}  // namespace

const Rules& rules(const Guard&) { return kRules<kGuard>; }

}  // namespace octavo
