#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr AdamW kOp{.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f};

struct Moments {
    double w, m, v;
};

// torch/optim/adamw.py, single tensor, in doubles.
Moments oracle(Moments s, double g, double lr, double bias1, double bias2) {
    s.w *= 1 - lr * kOp.weight_decay;
    s.m = s.m * kOp.beta1 + (1.0 - kOp.beta1) * g;
    s.v = s.v * kOp.beta2 + (1.0 - kOp.beta2) * g * g;
    s.w -= lr / bias1 * s.m / (std::sqrt(s.v) / std::sqrt(bias2) + kOp.eps);
    return s;
}

std::vector<HostTensor> operands(const Shape& shape, double factor) {
    HostTensor v = random_tensor(Dtype::f32, shape, 4, 0.1);
    for (double& x : v.values) x *= x;
    return {random_tensor(Dtype::f32, shape, 1),
            random_tensor(Dtype::f32, shape, 2, 0.1),
            random_tensor(Dtype::f32, shape, 3, 0.1),
            tensor(Dtype::f32, shape, v.values),
            scalar(factor),
            vector(Dtype::f32, {1e-2, 0.19, 0.0975})};
}

TEST(AdamW, MatchesTheOracle) {
    for (const Shape& shape : kShapes) {
        for (double factor : {1.0, 0.25}) {
            SCOPED_TRACE(to_string(shape));
            const auto in = operands(shape, factor);
            const auto out = run(as_is(kOp), in);
            const auto& schedule = in[5].values;
            ASSERT_EQ(out[0].values.size(), in[0].values.size());
            for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                const Moments want =
                    oracle({in[0].values[i], in[2].values[i], in[3].values[i]},
                           in[1].values[i] * factor, schedule[0], schedule[1], schedule[2]);
                EXPECT_NEAR(out[0].values[i], want.w, 4 * 0x1p-24 * (std::abs(want.w) + 1));
                EXPECT_NEAR(out[1].values[i], want.m, 4 * 0x1p-24);
                EXPECT_NEAR(out[2].values[i], want.v, 4 * 0x1p-24 * want.v);
            }
            expect_same_in_place(kOp, in);
        }
    }
}

TEST(AdamW, FirstStepMovesByTheLearningRate) {
    const AdamW plain{.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0};
    const HostTensor zeros = vector(Dtype::f32, {0, 0, 0});
    const HostTensor schedule = vector(Dtype::f32, {0.01, 1.0 - 0.9f, 1.0 - 0.999f});
    const auto w = run(as_is(plain), {zeros, vector(Dtype::f32, {3, -1e-3, 0}), zeros, zeros,
                                      scalar(1), schedule})[0];
    expect_each(w, {-0.01, 0.01, 0}, 2e-5);
}

TEST(AdamW, SkipsTheStepWithoutAFiniteFactor) {
    for (double factor : {kNan, kInf, -kInf}) {
        auto in = operands({3, 5}, factor);
        in[1] = tensor(Dtype::f32, {3, 5}, std::vector<double>(15, kNan));
        const auto out = run(as_is(kOp), in);
        expect_identical(out[0], in[0]);
        expect_identical(out[1], in[2]);
        expect_identical(out[2], in[3]);
        expect_same_in_place(kOp, in);
    }
}

TEST(AdamW, RefusesOtherTypes) {
    const Type w{Dtype::f32, {4}}, one{Dtype::f32, {1}}, three{Dtype::f32, {3}};
    EXPECT_EQ(refusal(as_is(kOp), {w, {Dtype::bf16, {4}}, w, w, one, three}),
              "adamw: operands 0 and 1 must have the same type, got f32[4] and bf16[4]");
    EXPECT_EQ(refusal(as_is(kOp), {w, w, w, w, one, one}),
              "adamw: operand 5 must have shape [3], got f32[1]");
}

}  // namespace
}  // namespace octavo::test
