// y = softmax(x 2^exponent) 2^result_exponent over the last dimension. Computed in f32 (f64 for
// f64).
//     x, y: same type, float
#include <algorithm>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Softmax&, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Values vjp(Builder& b, const Softmax& op, const Values&, const Values& out, const Values& dout) {
    check(op == Softmax{}, "softmax: no gradient with exponents");
    return {b.one(SoftmaxGrad{}, {out[0], dout[0]})};
}

// Of values; n results with the sum 1 are about 1 / n. A lone 1 among many still fits f16.
ScaledValues scale(ScaleBuilder& s, const Softmax&, const ScaledValues& in) {
    constexpr int kLargest = 14;
    const auto n = std::max<std::int64_t>(1, s.b.shape(in[0].data).last());
    const int l = std::min(floor_log2(static_cast<double>(n)), kLargest);
    return {{s.b.one(Softmax{s.offset(in[0], "softmax"), l}, {in[0].data}), {.offset = -l}}};
}

constexpr RulesFor<Softmax> kSoftmax{
    .type = type, .vjp = vjp, .scale = scale, .in_place = {{{0, 0}}}};

}  // namespace

const Rules& rules(const Softmax&) { return kRules<kSoftmax>; }

}  // namespace octavo
