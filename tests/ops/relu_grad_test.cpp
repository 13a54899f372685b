#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(ReluGrad, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) { return std::vector{x[0] > 0 ? x[1] : 0.0}; };
    check_pointwise(ReluGrad{}, 2, 0, oracle);
}

TEST(ReluGrad, LetsNothingThroughAtZero) {
    const HostTensor y = vector(Dtype::f32, {0, -0.0, 0x1p-149, kInf, kNan});
    const HostTensor dy = vector(Dtype::f32, {kNan, kInf, 2, 3, 4});
    expect_close(run(as_is(ReluGrad{}), {y, dy})[0], {0, 0, 2, 3, 0}, 0);
}

TEST(ReluGrad, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(ReluGrad{}), {{Dtype::f32, {4}}, {Dtype::bf16, {4}}}),
              "relu_grad: operands 0 and 1 must have the same type, got f32[4] and bf16[4]");
}

}  // namespace
}  // namespace octavo::test
