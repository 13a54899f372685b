#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double factor(float max_norm, double norm) {
    return run(as_is(ClipFactor{max_norm}), {scalar(norm)})[0].values[0];
}

TEST(ClipFactor, ScalesDownToTheMaximum) {
    EXPECT_FLOAT_EQ(static_cast<float>(factor(1, 4)), 1.0f / 4.000001f);
    EXPECT_FLOAT_EQ(static_cast<float>(factor(0.5f, 1e-6)), 1);
    EXPECT_EQ(factor(1, 0.5), 1);
    EXPECT_EQ(factor(1, 0), 1);
}

TEST(ClipFactor, WithoutMaximum) {
    EXPECT_EQ(factor(0, 100), 1);
    EXPECT_EQ(factor(-1, 100), 1);
}

TEST(ClipFactor, NanForNormsThatAreNotFinite) {
    for (float max_norm : {0.0f, 1.0f}) {
        EXPECT_TRUE(std::isnan(factor(max_norm, kInf)));
        EXPECT_TRUE(std::isnan(factor(max_norm, kNan)));
    }
}

TEST(ClipFactor, TimesEachScale) {
    std::vector<HostTensor> in{scalar(3)};
    for (int i = 0; i < 300; ++i) in.push_back(scalar(std::ldexp(1, i % 40 - 20)));
    const auto out = run(as_is(ClipFactor{.max_norm = 1, .scaled = true}), in);
    ASSERT_EQ(out.size(), in.size());
    EXPECT_EQ(out[0].values[0], factor(1, 3));
    for (std::size_t i = 1; i < in.size(); ++i) {
        EXPECT_EQ(out[i].values[0], out[0].values[0] * in[i].values[0]);
    }
    EXPECT_EQ(run(as_is(ClipFactor{.max_norm = 1, .scaled = true}), {scalar(3)}).size(), 1);
}

TEST(ClipFactor, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(ClipFactor{}), {{Dtype::f32, {2}}}),
              "clip_factor: operand 0 must have shape [1], got f32[2]");
    EXPECT_EQ(refusal(as_is(ClipFactor{}), {{Dtype::f64, {1}}}),
              "clip_factor: operand 0 must be unscaled f32, got f64[1]");
}

}  // namespace
}  // namespace octavo::test
