#include "base/scale.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/float8.h"

namespace octavo {
namespace {

constexpr float kMax = std::numeric_limits<float>::max();
constexpr Scale kOld = {0.25f, 4.0f};

float next_above(float x) { return std::nextafter(x, INFINITY); }

// V1 of the fp8-lm golden vectors.
TEST(Scale, PowerOfTwoExponents) {
    struct Case {
        float amax;
        int e4m3, e5m2, f16;
    };
    const Case cases[] = {{1.0f, 8, 15, 15},
                          {1.75f, 8, 15, 15},
                          {next_above(1.75f), 7, 14, 15},
                          {1.9990234375f, 7, 14, 15},
                          {next_above(1.9990234375f), 7, 14, 14},
                          {3.0f, 7, 14, 14},
                          {448.0f, 0, 7, 7},
                          {next_above(448.0f), -1, 6, 7},
                          {0.001f, 18, 25, 25},
                          {1e-30f, 108, 115, 115},
                          {1e30f, -91, -84, -84},
                          {0x1p-126f, 126, 126, 126},
                          {kMax, -120, -113, -113},
                          {65504.0f, -8, -1, 0}};
    for (const Case& c : cases) {
        EXPECT_EQ(pow2_exponent(c.amax, Dtype::e4m3), c.e4m3) << c.amax;
        EXPECT_EQ(pow2_exponent(c.amax, Dtype::e5m2), c.e5m2) << c.amax;
        EXPECT_EQ(pow2_exponent(c.amax, Dtype::f16), c.f16) << c.amax;
        for (Dtype d : {Dtype::e4m3, Dtype::e5m2, Dtype::f16}) {
            const int e = pow2_exponent(c.amax, d);
            EXPECT_EQ(next_scale(c.amax, d, ScaleRounding::pow2, 0, kOld),
                      (Scale{std::ldexp(1.0f, -e), std::ldexp(1.0f, e)}));
        }
    }
}

TEST(Scale, KeepsTheOldScaleWithoutAUsableAmax) {
    for (float amax : {0.0f, std::nextafter(0x1p-126f, 0.0f), INFINITY, NAN, -1.0f}) {
        for (ScaleRounding rounding : {ScaleRounding::pow2, ScaleRounding::exact}) {
            EXPECT_EQ(next_scale(amax, Dtype::e4m3, rounding, 0, kOld), kOld) << amax;
        }
    }
}

TEST(Scale, PowerOfTwoPutsTheMaximumIntoTheTopBinade) {
    for (float amax = 1e-30f; amax < 1e30f; amax *= 1.0173f) {
        for (Dtype d : {Dtype::e4m3, Dtype::e5m2, Dtype::f16}) {
            const Scale s = next_scale(amax, d, ScaleRounding::pow2, 0, {});
            const float scaled = amax * s.inv_scale;
            ASSERT_GT(scaled, max_value(d) / 2) << amax;
            ASSERT_LE(scaled, max_value(d)) << amax;
            ASSERT_EQ(s.scale * s.inv_scale, 1.0f) << amax;
        }
    }
}

TEST(Scale, ExactPutsTheMaximumOnTheTopCode) {
    for (float amax = 1e-30f; amax < 1e30f; amax *= 1.0173f) {
        const Scale s = next_scale(amax, Dtype::e4m3, ScaleRounding::exact, 0, {});
        ASSERT_EQ(s.scale, amax / 448.0f);
        ASSERT_EQ(s.inv_scale, 1.0f / s.scale);
        ASSERT_EQ(e4m3(amax * s.inv_scale).bits, 0x7E) << amax;
        const Scale t = next_scale(amax, Dtype::e5m2, ScaleRounding::exact, 0, {});
        ASSERT_EQ(e5m2(amax * t.inv_scale).bits, 0x7B) << amax;
    }
}

TEST(Scale, MarginLeavesHeadRoom) {
    EXPECT_EQ(pow2_exponent(1.0f, Dtype::e4m3, 2), 6);
    EXPECT_EQ(next_scale(1.0f, Dtype::e4m3, ScaleRounding::pow2, 2, {}), (Scale{0x1p-6f, 0x1p6f}));
    EXPECT_EQ(next_scale(448.0f, Dtype::e4m3, ScaleRounding::exact, 1, {}), (Scale{2.0f, 0.5f}));
}

TEST(Scale, StaysNormalAtTheEnds) {
    EXPECT_EQ(next_scale(0x1p-126f, Dtype::e5m2, ScaleRounding::exact, 0, {}),
              (Scale{0x1p-126f, 0x1p126f}));
    EXPECT_EQ(next_scale(kMax, Dtype::e4m3, ScaleRounding::exact, 60, {}),
              (Scale{0x1p126f, 0x1p-126f}));
    EXPECT_EQ(pow2_exponent(kMax, Dtype::e4m3, 60), -126);
}

TEST(Scale, NamesADtypeThatHasNoScale) {
    for (Dtype d : {Dtype::f32, Dtype::bf16, Dtype::i32}) {
        EXPECT_THROW(pow2_exponent(1.0f, d), Error);
        EXPECT_THROW(next_scale(0.0f, d, ScaleRounding::exact, 0, {}), Error);
    }
    try {
        pow2_exponent(1.0f, Dtype::bf16);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.message(), "scale: expected a scaled dtype (e4m3, e5m2 or f16), got bf16");
    }
}

}  // namespace
}  // namespace octavo
