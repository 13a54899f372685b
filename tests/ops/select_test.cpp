#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Select, MatchesTheOracle) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            const std::vector<HostTensor> in{random_ids(shape, 2, 1),
                                             random_tensor(dtype, shape, 2),
                                             random_tensor(dtype, shape, 3)};
            std::vector<double> want;
            for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                want.push_back(in[in[0].values[i] != 0 ? 1 : 2].values[i]);
            }
            expect_each(run(as_is(Select{}), in)[0], want, 0);
            expect_same_in_place(Select{}, in);
        }
    }
}

// Whatever is not zero chooses a, and what is not chosen may hold anything.
TEST(Select, PassesOverTheOther) {
    const HostTensor mask = tensor(Dtype::i32, {6}, {1, 0, -1, -0x1p31, 0, 0x1p8});
    const HostTensor a = vector(Dtype::f32, {1, kNan, 3, kInf, kInf, kNan});
    const HostTensor b = vector(Dtype::f32, {kNan, 2, kInf, kNan, -kInf, 0});
    expect_close(run(as_is(Select{}), {mask, a, b})[0], {1, 2, 3, kInf, -kInf, kNan}, 0);
}

TEST(Select, Gradient) {
    check_gradient(as_is(Select{}),
                   {random_ids({3, 7}, 2, 1), random_tensor(Dtype::f64, {3, 7}, 2),
                    random_tensor(Dtype::f64, {3, 7}, 3)},
                   {1, 2});
    const auto with_exponent = [](Builder& b, const Values& in) {
        return differentiate(b, b.one(Select{.a_exponent = 1}, in), {in[1]});
    };
    const Type x{Dtype::f32, {1}};
    EXPECT_EQ(refusal(with_exponent, {{Dtype::i32, {1}}, x, x}),
              "select: no gradient with exponents");
}

TEST(Select, RefusesOtherTypes) {
    const Type x{Dtype::f32, {4}}, mask{Dtype::i32, {4}};
    EXPECT_EQ(refusal(as_is(Select{}), {x, x, x}),
              "select: operand 0 must be unscaled i32, got f32[4]");
    EXPECT_EQ(refusal(as_is(Select{}), {{Dtype::i32, {2, 2}}, x, x}),
              "select: operand 0 must have shape [4], got i32[2, 2]");
    EXPECT_EQ(refusal(as_is(Select{}), {mask, x, {Dtype::f16, {4}}}),
              "select: operands 1 and 2 must have the same type, got f32[4] and f16[4]");
}

}  // namespace
}  // namespace octavo::test
