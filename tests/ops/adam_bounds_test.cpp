#include "ops/plain_test.h"

namespace octavo::test {
namespace {

HostTensor f32_of(const std::vector<double>& values) { return vector(Dtype::f32, values); }

std::vector<double> next(const std::vector<double>& bounds, double scale, double factor) {
    return run(as_is(AdamBounds{0.9f, 0.95f}), {f32_of(bounds), scalar(scale), scalar(factor)})[0]
        .values;
}

TEST(AdamBounds, FollowTheGradient) {
    std::vector<double> bounds{0, 0};
    const std::tuple<int, int, int> steps[] = {{-10, -13, -20}, {-10, -13, -20}, {-14, -13, -21}};
    for (const auto& [gradient, m, v] : steps) {
        bounds = next(bounds, std::ldexp(1.0, gradient), 1.5);
        EXPECT_EQ(std::ilogb(bounds[0]), m);
        EXPECT_EQ(std::ilogb(bounds[1]), v);
    }
}

TEST(AdamBounds, StayWhenTheStepIsSkipped) {
    EXPECT_EQ(next({0.5, 0.25}, 4, kNan), (std::vector<double>{0.5, 0.25}));
    EXPECT_EQ(next({0.5, 0.25}, 4, kInf), (std::vector<double>{0.5, 0.25}));
}

}  // namespace
}  // namespace octavo::test
