// What Smooth-SwiGLU divides out (arXiv 2409.12517), by itself:
//     s = a power of two >= max |up| over each row (or column), or the maximum itself; >= 2^-24
//     up: any float -> s (rows) or (columns) in f32 (f64 for f64)
//
// NaN for a row or column with an infinity or NaN. A constant for the gradient, as in SmoothSwiGlu.
#include "graph/rules.h"

namespace octavo {
namespace {

Types type(const SmoothFactors& op, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    const Shape& x = in[0].shape;
    return {{accumulator(in[0].dtype), {op.axis == Axis::row ? x.rows() : x.last()}}};
}

constexpr RulesFor<SmoothFactors> kSmoothFactors{.type = type};

}  // namespace

const Rules& rules(const SmoothFactors&) { return kRules<kSmoothFactors>; }

}  // namespace octavo
