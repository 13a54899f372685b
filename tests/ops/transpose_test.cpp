#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

std::vector<double> transposed(const HostTensor& x) {
    const std::int64_t m = x.type.shape.rows(), n = x.type.shape.last();
    std::vector<double> y(x.values.size());
    for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) y[j * m + i] = x.values[i * n + j];
    }
    return y;
}

TEST(Transpose, MovesEveryElementOfEveryDtype) {
    const Shape shapes[] = {{1, 1}, {3, 5}, {64, 64}, {2, 33, 130}, {257, 96}, {0, 4}, {4, 0}};
    for (const Shape& shape : shapes) {
        for (Dtype dtype : kPlainDtypes) {
            const HostTensor x = random_tensor(dtype, shape, 1);
            const auto y = run(as_is(Transpose{}), {x});
            EXPECT_EQ(y[0].type, (Type{dtype, {shape.last(), shape.rows()}}));
            EXPECT_EQ(y[0].values, transposed(x));
        }
        for (Dtype dtype : {Dtype::e4m3, Dtype::e5m2}) {
            const HostTensor x = scaled_tensor(dtype, shape, 2, 0.25f);
            const auto y = run(as_is(Transpose{}), {x});
            EXPECT_EQ(y[0].values, transposed(x));
            EXPECT_EQ(y[0].scales, x.scales);
        }
    }
}

TEST(Transpose, Gradient) {
    check_gradient(as_is(Transpose{}), {random_tensor(Dtype::f64, {2, 3, 4}, 1)}, {0});
}

TEST(Transpose, RefusesVectorsAndFinerScales) {
    EXPECT_EQ(refusal(as_is(Transpose{}), {{Dtype::f32, {4}}}),
              "transpose: expected at least 2 dimensions, got f32[4]");
    const Type rows{Dtype::e4m3, {4, 4}, {.granularity = Granularity::row}};
    EXPECT_EQ(refusal(as_is(Transpose{}), {rows}),
              "transpose: expected plain values, one scale per tensor or per 128x128 block, got " +
                  to_string(rows));
}

}  // namespace
}  // namespace octavo::test
