#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double scale_for(double amax, const ScaleRule& rule, double old = 0.375) {
    return run(as_is(ComputeScale{rule}), {scalar(amax), scalar(old)})[0].values[0];
}

double above(float x) { return std::nextafter(x, INFINITY); }

// V1 of the golden vectors of FP8-LM: k = 2^e.
struct Exponents {
    double amax;
    int e4m3, e5m2, f16;
};

TEST(ComputeScale, GoldenExponents) {
    const Exponents cases[] = {{1, 8, 15, 15},
                               {1.75, 8, 15, 15},
                               {above(1.75f), 7, 14, 15},
                               {1.9990234375, 7, 14, 15},
                               {above(1.9990234375f), 7, 14, 14},
                               {3, 7, 14, 14},
                               {448, 0, 7, 7},
                               {above(448), -1, 6, 7},
                               {0.001, 18, 25, 25},
                               {1e-30, 108, 115, 115},
                               {1e30, -91, -84, -84},
                               {0x1p-126, 126, 126, 126},
                               {std::numeric_limits<float>::max(), -120, -113, -113},
                               {65504, -8, -1, 0}};
    for (const Exponents& c : cases) {
        EXPECT_EQ(scale_for(c.amax, {Dtype::e4m3}), std::ldexp(1.0, -c.e4m3)) << c.amax;
        EXPECT_EQ(scale_for(c.amax, {Dtype::e5m2}), std::ldexp(1.0, -c.e5m2)) << c.amax;
        EXPECT_EQ(scale_for(c.amax, {Dtype::f16}), std::ldexp(1.0, -c.f16)) << c.amax;
    }
}

TEST(ComputeScale, KeepsTheOldOneWithoutAUsableAmax) {
    for (double amax : {0.0, 0x1p-127, kInf, kNan}) {
        for (ScaleRounding rounding : {ScaleRounding::pow2, ScaleRounding::exact}) {
            EXPECT_EQ(scale_for(amax, {Dtype::e4m3, rounding}), 0.375) << amax;
        }
    }
}

TEST(ComputeScale, RoundingAndMargin) {
    EXPECT_EQ(scale_for(3, {Dtype::e4m3, ScaleRounding::exact}), 3.0f / 448.0f);
    EXPECT_EQ(scale_for(3, {Dtype::e4m3, ScaleRounding::exact, 1}), 6.0f / 448.0f);
    EXPECT_EQ(scale_for(1, {Dtype::e4m3, ScaleRounding::pow2, 2}), 0x1p-6);
    expect_same_in_place(ComputeScale{}, {scalar(3), scalar(1)});
}

TEST(ComputeScale, RefusesFormatsWithoutScale) {
    const Type one{Dtype::f32, {1}};
    EXPECT_EQ(refusal(as_is(ComputeScale{{Dtype::bf16}}), {one, one}),
              "compute_scale: expected a format that takes a scale (e4m3, e5m2 or f16), got bf16");
    EXPECT_EQ(refusal(as_is(ComputeScale{}), {one, {Dtype::f32, {2}}}),
              "compute_scale: operand 1 must have shape [1], got f32[2]");
}

}  // namespace
}  // namespace octavo::test
