#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Mul, MatchesTheOracle) {
    check_pointwise(Mul{}, 2, 1, [](const auto& x) { return std::vector{x[0] * x[1]}; });
}

TEST(Mul, ByOneFactor) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            const HostTensor x = random_tensor(dtype, shape, 3);
            const HostTensor factor = tensor(accumulator(dtype), {1}, {-0.3});
            std::vector<double> want = x.values;
            for (double& v : want) v *= factor.values[0];
            const auto y = run(as_is(Mul{}), {x, factor})[0];
            EXPECT_EQ(y.type, x.type);
            expect_each(y, want, tolerance(dtype, 1), dtype == Dtype::f16 ? 0x1p-25 : 0);
            expect_same_in_place(Mul{}, {x, factor});
        }
    }
}

TEST(Mul, Gradient) {
    const HostTensor a = random_tensor(Dtype::f64, {2, 3}, 1);
    check_gradient(as_is(Mul{}), {a, random_tensor(Dtype::f64, {2, 3}, 2)}, {0, 1});
    check_gradient(as_is(Mul{}), {a, tensor(Dtype::f64, {1}, {0.7})}, {0});
}

TEST(Mul, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(Mul{}), {{Dtype::bf16, {4}}, {Dtype::bf16, {1}}}),
              "mul: operands 0 and 1 must have the same type, got bf16[4] and bf16[1]");
    EXPECT_EQ(refusal(as_is(Mul{}), {{Dtype::f32, {2, 3}}, {Dtype::f32, {3}}}),
              "mul: operands 0 and 1 must have the same type, got f32[2, 3] and f32[3]");
}

}  // namespace
}  // namespace octavo::test
