#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(SwiGlu, MatchesTheOracle) {
    const Pointwise oracle = [](const auto& x) {
        return std::vector{x[0] / (1 + std::exp(-x[0])) * x[1]};
    };
    check_pointwise(SwiGlu{}, 2, 8, oracle, 2);
}

// In f32 nothing is rounded between the parts that the fused kernel does not round too.
TEST(SwiGlu, EqualsItsDecomposition) {
    const std::vector<HostTensor> in = {random_tensor(Dtype::f32, {5, 131}, 1, 2),
                                        random_tensor(Dtype::f32, {5, 131}, 2)};
    expect_identical(run(as_is(SwiGlu{}), in)[0], run(decomposed(SwiGlu{}), in)[0]);
}

// Gate and up side by side are the same two matrices.
TEST(SwiGlu, JoinedOperandsAreHalves) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const std::int64_t columns : {1, 5, 8, 264}) {
            const HostTensor both = random_tensor(dtype, {2, 3, 2 * columns}, 1, 2);
            const auto parts = run(
                [&](Builder& b, const Values& in) {
                    return Values{b.one(SwiGlu{}, b.emit(Split{{columns, columns}}, {in[0]}))};
                },
                {both});
            expect_identical(run(as_is(SwiGlu{.joined = true}), {both})[0], parts[0]);
        }
    }
    EXPECT_EQ(refusal(as_is(SwiGlu{.joined = true}), {{Dtype::f32, {4, 3}}}),
              "swiglu: gate and up side by side are an even number of columns, got f32[4, 3]");
}

TEST(SwiGlu, Gradient) {
    check_gradient(as_is(SwiGlu{}),
                   {random_tensor(Dtype::f64, {3, 7}, 1), random_tensor(Dtype::f64, {3, 7}, 2)},
                   {0, 1});
}

TEST(SwiGlu, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(SwiGlu{}), {{Dtype::f32, {4}}, {Dtype::f32, {3}}}),
              "swiglu: operands 0 and 1 must have the same type, got f32[4] and f32[3]");
}

}  // namespace
}  // namespace octavo::test
