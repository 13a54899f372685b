// How large the values of a tensor are, measured (arXiv 2407.17353):
//     size = scale 2^exponent max(p2(statistic of x), 2^-14)
// with p2(v) the largest power of two up to v, and the statistic sqrt(mean x^2), mean |x| or max
// |x|.
//     x any plain float, scale (1) f32 -> size (1) f32
//
// x itself stays: who reads it next multiplies by scale / size anyway (ScaledAdd). A statistic that
// is not finite counts as 1. Sums are of packets in f32 and of all packets in f64
// (backends/propagation.h), so that all backends find the same power of two.
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const DynamicRescale&, Operands in) {
    in.expect_count(2);
    expect_code(in, 0);
    expect_scalar(in, 1, Dtype::f32);
    return {in[1]};
}

constexpr RulesFor<DynamicRescale> kDynamicRescale{.type = type};

}  // namespace

const Rules& rules(const DynamicRescale&) { return kRules<kDynamicRescale>; }

}  // namespace octavo
