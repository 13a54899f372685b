#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Exp, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) { return std::vector{std::exp(x[0])}; };
    check_pointwise(Exp{}, 1, 4, oracle);
}

// The whole range of f32; of subnormal results to two units in the last place, as on GPUs.
TEST(Exp, FarFromZero) {
    const std::vector<double> x = {-kInf, -150, -104.5, kInf, 89, kNan};
    expect_close(run(as_is(Exp{}), {vector(Dtype::f32, x)})[0], {0, 0, 0, kInf, kInf, kNan}, 0);
    const std::vector<double> finite = {-103, -100, -88, -70, -0.0, 0x1p-30, 70, 80, 88, 88.5};
    std::vector<double> want;
    for (const double v : finite) want.push_back(std::exp(v));
    expect_each(run(as_is(Exp{}), {vector(Dtype::f32, finite)})[0], want, 0x1p-21, 0x1p-148);
}

TEST(Exp, Gradient) {
    check_gradient(as_is(Exp{}), {random_tensor(Dtype::f64, {3, 7}, 1)}, {0});
    const auto with_exponent = [](Builder& b, const Values& in) {
        return differentiate(b, b.one(Exp{2}, in), in);
    };
    EXPECT_EQ(refusal(with_exponent, {{Dtype::f32, {1}}}), "exp: no gradient with an exponent");
}

}  // namespace
}  // namespace octavo::test
