// Gradient of Silu. With s = sigmoid(x):
//     dx = dy * s * (1 + x * (1 - s))
//     x, dy, dx: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const SiluGrad&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

constexpr RulesFor<SiluGrad> kSiluGrad{.type = type, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const SiluGrad&) { return kRules<kSiluGrad>; }

}  // namespace octavo
