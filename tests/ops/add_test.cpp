#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Add, MatchesTheOracle) {
    check_pointwise(Add{}, 2, 1, [](const auto& x) { return std::vector{x[0] + x[1]}; });
}

TEST(Add, InfinityAndNan) {
    const auto y = run(as_is(Add{}), {vector(Dtype::f32, {kInf, kInf, kNan, 1}),
                                      vector(Dtype::f32, {1, -kInf, 1, 2})})[0];
    expect_close(y, {kInf, kNan, kNan, 3}, 0);
}

TEST(Add, ToItself) {
    const HostTensor x = vector(Dtype::f64, {1, -2, 0.5});
    const Build twice = [](Builder& b, const Values& in) { return Values{b.add(in[0], in[0])}; };
    EXPECT_EQ(run(twice, {x})[0].values, (std::vector<double>{2, -4, 1}));
    check_gradient(twice, {x}, {0});
}

TEST(Add, Gradient) {
    check_gradient(as_is(Add{}),
                   {random_tensor(Dtype::f64, {2, 3}, 1), random_tensor(Dtype::f64, {2, 3}, 2)},
                   {0, 1});
}

TEST(Add, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(Add{}), {{Dtype::f32, {4}}, {Dtype::bf16, {4}}}),
              "add: operands 0 and 1 must have the same type, got f32[4] and bf16[4]");
    EXPECT_EQ(refusal(as_is(Add{}), {{Dtype::i32, {4}}, {Dtype::i32, {4}}}),
              "add: operand 0 must be an unscaled f64, f32, bf16 or f16 tensor, got i32[4]");
    EXPECT_EQ(refusal(as_is(Add{}), {{Dtype::f32, {4}}}), "add takes 2 operands, got 1");
}

}  // namespace
}  // namespace octavo::test
