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

// The scale of a weight's E4M3 codes under a predicted amax.
float scale_under(float amax) {
    const ComputeScale op{{.to = Dtype::e4m3, .rounding = ScaleRounding::exact}};
    return static_cast<float>(run(as_is(op), {scalar(amax), scalar(1)})[0].values[0]);
}

// Golden vectors 13 and 14 of MOSS: the published bound, and AdamW's. From 0 one step is what is
// added.
TEST(PredictAmax, FollowsTheLearningRate) {
    EXPECT_EQ(bits(predict(0, 1, 3e-4f, 1, 1)), 0x399d4952u);
    EXPECT_EQ(bits(predict(0.1f, 1, 3e-4f, 1, 1)), 0x3dcd6a16u);
    EXPECT_EQ(bits(predict(0.1f, 1, 3e-4f, 0.5, 2)), 0x3dce075fu);
    EXPECT_EQ(bits(predict(0.1f, 1, 3e-4f, 1, 500)), 0x3e800040u);
    EXPECT_EQ(bits(scale_under(std::bit_cast<float>(0x3e800040))), 0x3a12496eu);
    const auto c = std::bit_cast<float>(0x3f951d91);  // of betas 0.9, 0.95
    EXPECT_EQ(bits(predict(0, c, 3e-4f, 1, 1)), 0x39b73baeu);
    EXPECT_EQ(bits(predict(0.1f, c, 3e-4f, 1, 1)), 0x3dcd8409u);
    EXPECT_EQ(bits(predict(0.1f, c, 3e-4f, 1, 2)), 0x3dce3b45u);
    EXPECT_EQ(bits(predict(0.1f, c, 3e-4f, 1, 500)), 0x3e8cab7fu);
    EXPECT_EQ(bits(scale_under(std::bit_cast<float>(0x3e8cab7f))), 0x3a20c3ffu);
}

// Golden vector 15: how far AdamW moves a weight in step t, in learning rates, where gradients have
// grown by beta2 / beta1 in each step until then. The bound is what that grows towards.
TEST(PredictAmax, BoundsUpdatesThatAdamWReaches) {
    const auto update = [](double beta2, int last) {
        const AdamW op{.beta2 = static_cast<float>(beta2), .eps = 0};
        HostTensor m = scalar(0), v = scalar(0);
        double reached = 0;
        for (int t = 1; t <= last; ++t) {
            const double g = std::pow(0.9 / beta2, last - t);
            const double bias1 = 1 - std::pow(double{op.beta1}, t),
                         bias2 = 1 - std::pow(double{op.beta2}, t);
            const auto out = run(as_is(op), {scalar(0), scalar(g), m, v, scalar(1),
                                             vector(Dtype::f32, {1, bias1, bias2}), count(t)});
            m = out[1];
            v = out[2];
            reached = -out[0].values[0];
        }
        return reached;
    };
    EXPECT_NEAR(update(0.95, 10), 1.011454, 2e-6);
    EXPECT_NEAR(update(0.95, 100), 1.161542, 2e-6);
    EXPECT_NEAR(update(0.999, 10), 1.043108, 2e-6);
    EXPECT_NEAR(update(0.999, 100), 2.243364, 2e-6);
}

TEST(PredictAmax, StaysWhenTheStepIsSkipped) {
    EXPECT_EQ(predict(0.25f, 1, 3e-4f, kNan, 3), 0.25f);
    EXPECT_EQ(predict(0.25f, 1, 3e-4f, kInf, 3), 0.25f);
    EXPECT_EQ(predict(0.25f, 1, 0, 1, 3), 0.25f);
}

}  // namespace
}  // namespace octavo::test
