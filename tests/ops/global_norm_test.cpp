#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double norm(const std::vector<HostTensor>& in) { return run(as_is(GlobalNorm{}), in)[0].values[0]; }

TEST(GlobalNorm, MatchesTheOracle) {
    std::vector<HostTensor> in;
    long double squares = 0;
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : {Shape{1}, Shape{0, 4}, Shape{2, 3, 129}, Shape{70001}}) {
            in.push_back(random_tensor(dtype, shape, in.size(), 0.1));
            for (double x : in.back().values) squares += x * x;
            const double want = std::sqrt(static_cast<double>(squares));
            EXPECT_NEAR(norm(in), want, rounding(Dtype::f32) * 1.001 * want) << in.size();
        }
    }
}

TEST(GlobalNorm, DecodesCodesUnderAScale) {
    std::vector<HostTensor> in{random_tensor(Dtype::f32, {333}, 9)};
    in.push_back(scaled_tensor(Dtype::e4m3, {70001}, 1, 0x1p-7f));
    in.push_back(scaled_tensor(Dtype::f16, {3, 129}, 2, 0.3f));
    in.push_back(scaled_tensor(Dtype::e5m2, {7}, 3, 100));
    long double squares = 0;
    for (const HostTensor& t : in) {
        for (double x : t.values) squares += x * x;
    }
    const double want = std::sqrt(static_cast<double>(squares));
    EXPECT_NEAR(norm(in), want, 2 * rounding(Dtype::f32) * want);
    in[1].scales[0] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(norm(in)));
}

TEST(GlobalNorm, TakesScalesBesideTheTensors) {
    const HostTensor a = random_tensor(Dtype::f32, {333}, 9);
    const HostTensor b = random_tensor(Dtype::f16, {3, 129}, 2);
    const HostTensor codes =
        run(as_is(Cast{Dtype::e5m2}), {random_tensor(Dtype::f32, {70001}, 3)})[0];
    const std::vector<double> scales{0x1p-20, 4, 0x1p-3};
    long double squares = 0;
    const HostTensor* tensors[] = {&a, &b, &codes};
    for (std::size_t i = 0; i < 3; ++i) {
        for (double x : tensors[i]->values) squares += x * scales[i] * x * scales[i];
    }
    const auto got = run(as_is(GlobalNorm{.scaled = true}),
                         {a, b, codes, scalar(scales[0]), scalar(scales[1]), scalar(scales[2])});
    const double want = std::sqrt(static_cast<double>(squares));
    EXPECT_NEAR(got[0].values[0], want, 2 * rounding(Dtype::f32) * want);
}

TEST(GlobalNorm, SquaresBeyondF32) {
    EXPECT_FLOAT_EQ(static_cast<float>(norm({vector(Dtype::f32, {3e30, 4e30})})), 5e30f);
    EXPECT_FLOAT_EQ(static_cast<float>(norm({vector(Dtype::f32, {3e-30, 4e-30})})), 5e-30f);
}

TEST(GlobalNorm, ZeroInfinityAndNan) {
    EXPECT_EQ(norm({vector(Dtype::bf16, {0, 0}), tensor(Dtype::f32, {0}, {})}), 0);
    EXPECT_EQ(norm({vector(Dtype::f32, {1, -kInf})}), kInf);
    EXPECT_TRUE(std::isnan(norm({vector(Dtype::f32, {1}), vector(Dtype::f32, {kNan, 1})})));
}

TEST(GlobalNorm, SameOnAnyThreads) {
    expect_same_on_any_threads(as_is(GlobalNorm{}), {random_tensor(Dtype::f32, {300007}, 1),
                                                     random_tensor(Dtype::bf16, {5, 777}, 2)});
}

TEST(GlobalNorm, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(GlobalNorm{}), {}), "global_norm takes one operand or more, got none");
    EXPECT_EQ(
        refusal(as_is(GlobalNorm{}), {{Dtype::f32, {2}}, {Dtype::i32, {2}}}),
        "global_norm: operand 1 must be an unscaled f64, f32, bf16 or f16 tensor, got i32[2]");
}

}  // namespace
}  // namespace octavo::test
