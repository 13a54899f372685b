#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Silu, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) {
        return std::vector{x[0] / (1 + std::exp(-x[0]))};
    };
    check_pointwise(Silu{}, 1, 8, oracle, 4);
}

TEST(Silu, FarFromZero) {
    const std::vector<double> x = {-0x1p99, -88, -30, 88, 0x1p99, kInf, kNan};
    const auto y = run(as_is(Silu{}), {vector(Dtype::f32, x)})[0];
    expect_close(y, {0, -88 * std::exp(-88.0), -30 * std::exp(-30.0), 88, 0x1p99, kInf, kNan}, 0,
                 1e-17);
    EXPECT_NEAR(y.values[1] / (-88 * std::exp(-88.0)), 1, 1e-5);
}

TEST(Silu, Gradient) {
    check_gradient(as_is(Silu{}), {random_tensor(Dtype::f64, {3, 7}, 1, 2)}, {0});
}

}  // namespace
}  // namespace octavo::test
