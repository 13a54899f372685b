#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double gelu_slope(double x) {
    const double k = std::sqrt(2 / M_PI), t = std::tanh(k * (x + 0.044715 * x * x * x));
    return (1 + t) / 2 + x / 2 * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
}

TEST(GeluGrad, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) { return std::vector{x[1] * gelu_slope(x[0])}; };
    check_pointwise(GeluGrad{}, 2, 32, oracle, 2);
}

TEST(GeluGrad, FarFromZero) {
    const auto dx = run(as_is(GeluGrad{}), {vector(Dtype::f32, {-60, 0, 60, kNan}),
                                            vector(Dtype::f32, {2, 2, 2, 2})})[0];
    expect_close(dx, {0, 1, 2, kNan}, 1e-7);
}

TEST(GeluGrad, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(GeluGrad{}), {{Dtype::f32, {4}}, {Dtype::f32, {5}}}),
              "gelu_grad: operands 0 and 1 must have the same type, got f32[4] and f32[5]");
}

}  // namespace
}  // namespace octavo::test
