#include "ops/scaling_test.h"

namespace octavo::test {
namespace {

float predict(float p, float bound, float lr, double factor, int steps) {
    HostTensor amax = scalar(p);
    for (int i = 0; i < steps; ++i) {
        amax = run(as_is(PredictAmax{bound}),
                   {amax, vector(Dtype::f32, {lr, 1, 1}), scalar(factor)})[0];
    }
    return static_cast<float>(amax.values[0]);
}

std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }

// Golden vectors 13 and 14 of MOSS: the published bound, and AdamW's.
TEST(PredictAmax, FollowsTheLearningRate) {
    EXPECT_EQ(bits(predict(0.1f, 1, 3e-4f, 1, 1)), 0x3dcd6a16u);
    EXPECT_EQ(bits(predict(0.1f, 1, 3e-4f, 0.5, 2)), 0x3dce075fu);
    EXPECT_EQ(bits(predict(0.1f, 1, 3e-4f, 1, 500)), 0x3e800040u);
    const auto c = std::bit_cast<float>(0x3f951d91);  // of betas 0.9, 0.95
    EXPECT_EQ(bits(predict(0.1f, c, 3e-4f, 1, 1)), 0x3dcd8409u);
    EXPECT_EQ(bits(predict(0.1f, c, 3e-4f, 1, 2)), 0x3dce3b45u);
    EXPECT_EQ(bits(predict(0.1f, c, 3e-4f, 1, 500)), 0x3e8cab7fu);
}

TEST(PredictAmax, StaysWhenTheStepIsSkipped) {
    EXPECT_EQ(predict(0.25f, 1, 3e-4f, kNan, 3), 0.25f);
    EXPECT_EQ(predict(0.25f, 1, 3e-4f, kInf, 3), 0.25f);
    EXPECT_EQ(predict(0.25f, 1, 0, 1, 3), 0.25f);
}

}  // namespace
}  // namespace octavo::test
