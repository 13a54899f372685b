// y = a + b, element by element.     a, b, y: same type, float
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const Add&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_like(1, 0);
    return {in[0]};
}

Values vjp(Builder&, const Add&, const Values&, const Values&, const Values& dout) {
    return {dout[0], dout[0]};
}

constexpr RulesFor<Add> kAdd{.type = type, .vjp = vjp, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const Add&) { return kRules<kAdd>; }

}  // namespace octavo
