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

// The same three gradients through AdamW: moments as data under those scales, in f16 as #4 keeps
// them, and in f32, whose values are the same.
TEST(AdamBounds, AreTheScalesOfMoments) {
    struct Step {
        int gradient, m, v;
        double m_data, v_data;
    };
    const Step steps[] = {{-10, -13, -20, 0.8, 0.05},
                          {-10, -13, -20, 1.52, 0.0975},
                          {-14, -13, -21, 1.418, 0.1856407}};
    const auto zero = [](Dtype dtype) {
        HostTensor t = vector(dtype, {0, 0, 0});
        if (dtype == Dtype::f16) {
            t.type.scaling = kPerTensor;
            t.scales = {1};
        }
        return t;
    };
    for (const Dtype dtype : {Dtype::f16, Dtype::f32}) {
        HostTensor m = zero(dtype), v = zero(dtype);
        std::vector<double> bounds{0, 0};
        int t = 0;
        for (const Step& step : steps) {
            const double g = std::ldexp(1.0, step.gradient), bias1 = 1 - std::pow(0.9, ++t),
                         bias2 = 1 - std::pow(0.95, t);
            bounds = next(bounds, g, 1);
            std::vector<HostTensor> in{
                f32_of({0, 0, 0}), f32_of({g, g, g}), m, v, scalar(1), f32_of({1e-3, bias1, bias2}),
                count(t)};
            if (dtype == Dtype::f16) in.push_back(f32_of(bounds));
            const auto out = run(as_is(AdamW{}), in);
            m = out[1];
            v = out[2];
            // Each step rounds once, and carries what the steps before have rounded.
            const double rounding = dtype == Dtype::f16 ? 2 * 0x1p-11 : 1e-6;
            EXPECT_NEAR(std::ldexp(m.values[1], -step.m), step.m_data, rounding * step.m_data);
            EXPECT_NEAR(std::ldexp(v.values[1], -step.v), step.v_data, rounding * step.v_data);
            if (dtype != Dtype::f16) continue;
            EXPECT_EQ(m.scales, std::vector<float>{std::ldexp(1.0f, step.m)});
            EXPECT_EQ(v.scales, std::vector<float>{std::ldexp(1.0f, step.v)});
        }
    }
}

TEST(AdamBounds, StayWhenTheStepIsSkipped) {
    EXPECT_EQ(next({0.5, 0.25}, 4, kNan), (std::vector<double>{0.5, 0.25}));
    EXPECT_EQ(next({0.5, 0.25}, 4, kInf), (std::vector<double>{0.5, 0.25}));
}

}  // namespace
}  // namespace octavo::test
