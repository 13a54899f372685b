#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Maximum, MatchesTheOracle) {
    check_pointwise(Maximum{}, 2, 0,
                    [](const auto& x) { return std::vector{std::max(x[0], x[1])}; });
}

TEST(Maximum, PassesOverNan) {
    const HostTensor a = vector(Dtype::f32, {kNan, 1, kNan, -kInf, 3});
    const HostTensor b = vector(Dtype::f32, {2, kNan, kNan, kInf, -3});
    expect_close(run(as_is(Maximum{}), {a, b})[0], {2, 1, kNan, kInf, 3}, 0);
}

TEST(Maximum, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(Maximum{}), {{Dtype::f32, {4}}, {Dtype::f32, {1}}}),
              "maximum: operands 0 and 1 must have the same type, got f32[4] and f32[1]");
}

}  // namespace
}  // namespace octavo::test
