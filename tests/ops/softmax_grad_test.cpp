#include "ops/plain_test.h"

namespace octavo::test {
namespace {

void check_case(Dtype dtype, const Shape& shape) {
    SCOPED_TRACE(to_string(Type{dtype, shape}));
    const HostTensor y = run(as_is(Softmax{}), {random_tensor(dtype, shape, 1)})[0];
    const HostTensor dy = random_tensor(dtype, shape, 2);
    const HostTensor dx = run(as_is(SoftmaxGrad{}), {y, dy})[0];
    EXPECT_EQ(dx.type, y.type);
    ASSERT_EQ(dx.values.size(), y.values.size());
    const auto c = static_cast<std::size_t>(shape.last());
    const double steps = 4 + static_cast<double>(c);
    for (std::size_t row = 0; row < y.values.size(); row += c) {
        double mean = 0, size = 0;  // size bounds what rounds
        for (std::size_t i = row; i < row + c; ++i) {
            mean += y.values[i] * dy.values[i];
            size += std::abs(y.values[i] * dy.values[i]);
        }
        for (std::size_t i = row; i < row + c; ++i) {
            const double want = y.values[i] * (dy.values[i] - mean);
            const double terms = y.values[i] * (std::abs(dy.values[i]) + size);
            EXPECT_NEAR(dx.values[i], want,
                        rounding(dtype) * std::abs(want) +
                            steps * rounding(accumulator(dtype)) * terms +
                            (dtype == Dtype::f16 ? 0x1p-25 : 0));
        }
    }
    expect_same_in_place(SoftmaxGrad{}, {y, dy});
}

TEST(SoftmaxGrad, MatchesTheOracle) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) check_case(dtype, shape);
        check_case(dtype, {2, 50257});
    }
}

TEST(SoftmaxGrad, ZerosAndNan) {
    const HostTensor y = tensor(Dtype::f32, {3, 2}, {0, 1, 0.5, 0.5, 0.25, 0.75});
    const HostTensor dy = tensor(Dtype::f32, {3, 2}, {3, 4, kNan, 1, 0, 0});
    expect_close(run(as_is(SoftmaxGrad{}), {y, dy})[0], {0, 0, kNan, kNan, 0, 0}, 0);
}

TEST(SoftmaxGrad, OnAnyThreads) {
    const HostTensor y = run(as_is(Softmax{}), {random_tensor(Dtype::bf16, {37, 999}, 4, 3)})[0];
    expect_same_on_any_threads(as_is(SoftmaxGrad{}), {y, random_tensor(Dtype::bf16, {37, 999}, 5)});
}

TEST(SoftmaxGrad, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(SoftmaxGrad{}), {{Dtype::f32, {4}}, {Dtype::f32, {1, 4}}}),
              "softmax_grad: operands 0 and 1 must have the same type, got f32[4] and f32[1, 4]");
}

}  // namespace
}  // namespace octavo::test
