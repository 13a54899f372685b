#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(BiasAdd, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            const HostTensor x = random_tensor(dtype, shape, 1);
            const HostTensor b = random_tensor(accumulator(dtype), {shape.last()}, 2);
            std::vector<double> want = x.values;
            for (std::size_t i = 0; i < want.size(); ++i) want[i] += b.values[i % b.values.size()];
            expect_each(run(as_is(BiasAdd{}), {x, b})[0], want, tolerance(dtype, 1),
                        dtype == Dtype::f16 ? 0x1p-25 : 0);
            expect_same_in_place(BiasAdd{}, {x, b});
        }
    }
}

TEST(BiasAdd, Gradient) {
    check_gradient(as_is(BiasAdd{}),
                   {random_tensor(Dtype::f64, {2, 3, 5}, 1), random_tensor(Dtype::f64, {5}, 2)},
                   {0, 1});
}

TEST(BiasAdd, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(BiasAdd{}), {{Dtype::bf16, {2, 4}}, {Dtype::bf16, {4}}}),
              "bias_add: operand 1 must be unscaled f32, got bf16[4]");
    EXPECT_EQ(refusal(as_is(BiasAdd{}), {{Dtype::bf16, {2, 4}}, {Dtype::f32, {2}}}),
              "bias_add: operand 1 must have shape [4], got f32[2]");
}

}  // namespace
}  // namespace octavo::test
