#include "ops/plain_test.h"

namespace octavo::test {
namespace {

void check_sum(Dtype dtype, const Shape& shape) {
    SCOPED_TRACE(to_string(Type{dtype, shape}));
    const HostTensor x = random_tensor(dtype, shape, 1);
    const auto n = static_cast<std::size_t>(shape.last());
    std::vector<double> want(n), magnitudes(n);
    for (std::size_t i = 0; i < x.values.size(); ++i) {
        want[i % n] += x.values[i];
        magnitudes[i % n] += std::abs(x.values[i]);
    }
    const auto y = run(as_is(SumRows{}), {x})[0];
    EXPECT_EQ(y.type, (Type{accumulator(dtype), {shape.last()}}));
    ASSERT_EQ(y.values.size(), n);
    const double steps = static_cast<double>(shape.rows());
    for (std::size_t j = 0; j < n; ++j) {
        EXPECT_NEAR(y.values[j], want[j], steps * rounding(accumulator(dtype)) * magnitudes[j]);
    }
}

TEST(SumRows, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) check_sum(dtype, shape);
        check_sum(dtype, {1003, 17});
        check_sum(dtype, {1003, 24});
    }
}

TEST(SumRows, SameOnAnyThreads) {
    expect_same_on_any_threads(as_is(SumRows{}), {random_tensor(Dtype::f32, {777, 301}, 2)});
}

TEST(SumRows, Gradient) {
    check_gradient(as_is(SumRows{}), {random_tensor(Dtype::f64, {3, 2, 5}, 1)}, {0});
}

}  // namespace
}  // namespace octavo::test
