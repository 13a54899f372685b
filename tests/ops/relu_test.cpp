#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Relu, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) { return std::vector{std::max(x[0], 0.0)}; };
    check_pointwise(Relu{}, 1, 0, oracle);
}

TEST(Relu, KeepsNan) {
    const auto y = run(as_is(Relu{}), {vector(Dtype::f32, {-kInf, -1, kInf, kNan})})[0];
    expect_close(y, {0, 0, kInf, kNan}, 0);
}

TEST(Relu, Gradient) { check_gradient(as_is(Relu{}), {random_tensor(Dtype::f64, {3, 7}, 1)}, {0}); }

}  // namespace
}  // namespace octavo::test
