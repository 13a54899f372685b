#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Concat, JoinsRows) {
    for (Dtype dtype : kPlainDtypes) {
        const auto y = run(as_is(Concat{}),
                           {tensor(dtype, {2, 2}, {1, 2, 3, 4}), tensor(dtype, {2, 0}, {}),
                            tensor(dtype, {2, 1}, {5, 6}), tensor(dtype, {2, 3}, ones({2, 3}))})[0];
        EXPECT_EQ(y.type, (Type{dtype, {2, 6}}));
        EXPECT_EQ(y.values, (std::vector<double>{1, 2, 5, 1, 1, 1, 3, 4, 6, 1, 1, 1}));
    }
}

TEST(Concat, NoRows) {
    const auto y =
        run(as_is(Concat{}), {tensor(Dtype::f32, {0, 2}, {}), tensor(Dtype::f32, {0, 3}, {})})[0];
    EXPECT_EQ(y.type.shape, (Shape{0, 5}));
}

TEST(Concat, Gradient) {
    check_gradient(
        as_is(Concat{}),
        {random_tensor(Dtype::f64, {2, 3, 2}, 1), random_tensor(Dtype::f64, {2, 3, 1}, 2),
         random_tensor(Dtype::f64, {2, 3, 4}, 3)},
        {0, 1, 2});
}

TEST(Concat, RefusesOperandsThatDoNotFit) {
    EXPECT_EQ(refusal(as_is(Concat{}), {}), "concat takes one operand or more, got none");
    EXPECT_EQ(refusal(as_is(Concat{}), {{}}),
              "concat: operand 0 must have a dimension to concatenate along");
    EXPECT_EQ(refusal(as_is(Concat{}), {{Dtype::f32, {2, 3}}, {Dtype::f32, {3, 3}}}),
              "concat: operand 1 must have shape [2, 3], got f32[3, 3]");
    EXPECT_EQ(refusal(as_is(Concat{}), {{Dtype::f32, {2, 3}}, {Dtype::bf16, {2, 3}}}),
              "concat: operand 1 must be unscaled f32, got bf16[2, 3]");
    EXPECT_EQ(refusal(as_is(Concat{}), {{Dtype::f32, {2, 3}}, {}}),
              "concat: operand 1 must have shape [2, 1], got f32[]");
}

}  // namespace
}  // namespace octavo::test
