#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double gelu(double x) {
    return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

TEST(Gelu, MatchesTheOracle) {
    check_pointwise(Gelu{}, 1, 16, [](const auto& x) { return std::vector{gelu(x[0])}; }, 3);
}

// torch.nn.functional.gelu(x, approximate="tanh"), to 6 digits.
TEST(Gelu, KnownValues) {
    const auto y = run(as_is(Gelu{}), {vector(Dtype::f32, {-3, -1, 0, 0.5, 1, 3})})[0];
    expect_each(y, {-0.00363739, -0.158808, 0, 0.345714, 0.841192, 2.99636}, 2e-6);
}

TEST(Gelu, FarFromZero) {
    const auto y =
        run(as_is(Gelu{}), {vector(Dtype::f32, {-0x1p99, -60, 60, 0x1p99, kInf, kNan})})[0];
    expect_close(y, {0, 0, 60, 0x1p99, kInf, kNan}, 0);
}

TEST(Gelu, Gradient) {
    check_gradient(as_is(Gelu{}), {random_tensor(Dtype::f64, {3, 7}, 1, 2)}, {0});
}

}  // namespace
}  // namespace octavo::test
