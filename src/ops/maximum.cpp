// y = max(a, b), element by element; of a number and a NaN the number.
//     a, b, y: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Maximum&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

constexpr RulesFor<Maximum> kMaximum{.type = type, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const Maximum&) { return kRules<kMaximum>; }

}  // namespace octavo
