#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(SwiGluGrad, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) {
        const double s = 1 / (1 + std::exp(-x[0]));
        return std::vector{x[2] * x[1] * (s + x[0] * s * (1 - s)), x[2] * x[0] * s};
    };
    check_pointwise(SwiGluGrad{}, 3, 64, oracle);
}

TEST(SwiGluGrad, EqualsItsDecomposition) {
    std::vector<HostTensor> in;
    for (int i = 0; i < 3; ++i) in.push_back(random_tensor(Dtype::f32, {5, 131}, 1 + i));
    const auto fused = run(as_is(SwiGluGrad{}), in), parts = run(decomposed(SwiGluGrad{}), in);
    expect_identical(fused[0], parts[0]);
    expect_identical(fused[1], parts[1]);
}

TEST(SwiGluGrad, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(SwiGluGrad{}), {{Dtype::f32, {4}}, {Dtype::f32, {4}}, {}}),
              "swiglu_grad: operands 0 and 2 must have the same type, got f32[4] and f32[]");
}

}  // namespace
}  // namespace octavo::test
