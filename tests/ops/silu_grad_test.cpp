#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(SiluGrad, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) {
        const double s = 1 / (1 + std::exp(-x[0]));
        return std::vector{x[1] * (s + x[0] * s * (1 - s))};
    };
    check_pointwise(SiluGrad{}, 2, 32, oracle, 2);
}

TEST(SiluGrad, FarFromZero) {
    const auto dx = run(as_is(SiluGrad{}), {vector(Dtype::f32, {-1e30, 0, 1e30, kNan}),
                                            vector(Dtype::f32, {2, 2, 2, 2})})[0];
    expect_close(dx, {0, 1, 2, kNan}, 0);
}

TEST(SiluGrad, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(SiluGrad{}), {{Dtype::f32, {4}}, {Dtype::bf16, {4}}}),
              "silu_grad: operands 0 and 1 must have the same type, got f32[4] and bf16[4]");
}

}  // namespace
}  // namespace octavo::test
