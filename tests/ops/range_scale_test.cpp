#include "ops/scaling_test.h"

namespace octavo::test {
namespace {

float scale_of(double amax, float range) {
    return static_cast<float>(run(as_is(RangeScale{range}), {scalar(amax)})[0].values[0]);
}

// vLLM's ranges: queries and keys to 200, values to 100.
TEST(RangeScale, IsTheAmaxByTheRange) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(scale_of(8, 200)), 0x3D23D70Au);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(scale_of(5, 200)), 0x3CCCCCCDu);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(scale_of(3, 100)), 0x3CF5C28Fu);
}

TEST(RangeScale, OfNothingIsOne) { EXPECT_EQ(scale_of(0, 200), 1); }

TEST(RangeScale, WhatIsNotFiniteStaysSo) {
    EXPECT_EQ(scale_of(kInf, 200), kInf);
    EXPECT_TRUE(std::isnan(scale_of(kNan, 200)));
}

TEST(RangeScale, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(RangeScale{0}), {{Dtype::f32, {1}}}),
              "range_scale: expected a range above 0, got 0");
    EXPECT_EQ(refusal(as_is(RangeScale{1}), {{Dtype::f32, {2}}}),
              "range_scale: operand 0 must have shape [1], got f32[2]");
    EXPECT_EQ(refusal(as_is(RangeScale{1}), {{Dtype::f64, {1}}}),
              "range_scale: operand 0 must be unscaled f32, got f64[1]");
}

}  // namespace
}  // namespace octavo::test
