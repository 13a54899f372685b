// Gradient of Gelu. With s = sigmoid(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3), so that y = x * s:
//     dx = dy * (s + x * s * (1 - s) * 2u'),   u' = sqrt(2 / pi) * (1 + 3 * 0.044715 x^2)
//     x, dy, dx: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const GeluGrad&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

constexpr RulesFor<GeluGrad> kGeluGrad{.type = type, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const GeluGrad&) { return kRules<kGeluGrad>; }

}  // namespace octavo
