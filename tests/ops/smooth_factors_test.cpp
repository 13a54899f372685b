#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// As the function that divides by them finds them, whose test has an oracle.
TEST(SmoothFactors, AreThoseOfTheFunction) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const auto rounding : {ScaleRounding::pow2, ScaleRounding::exact}) {
            for (const Dtype dtype : kPlainDtypes) {
                for (const Shape& shape : kShapes) {
                    SCOPED_TRACE(to_string(Type{dtype, shape}));
                    const HostTensor gate = random_tensor(dtype, shape, 1);
                    const HostTensor up = random_tensor(dtype, shape, 2, 3);
                    const auto alone = run(as_is(SmoothFactors{axis, rounding}), {up});
                    const auto both = run(as_is(SmoothSwiGlu{axis, rounding}), {gate, up});
                    expect_identical(alone[0], both[1]);
                }
            }
        }
    }
}

TEST(SmoothFactors, ByHand) {
    const HostTensor up = tensor(Dtype::f32, {3, 2}, {0.75, -3, 0, 0, 4, kInf});
    using V = std::vector<double>;
    const auto rows = run(as_is(SmoothFactors{Axis::row}), {up})[0].values;
    EXPECT_EQ((V{rows[0], rows[1]}), (V{4, 0x1p-24}));
    EXPECT_TRUE(std::isnan(rows[2]));
    const auto columns = run(as_is(SmoothFactors{Axis::column}), {up})[0].values;
    EXPECT_EQ(columns[0], 4);
    EXPECT_TRUE(std::isnan(columns[1]));
    EXPECT_EQ(run(as_is(SmoothFactors{Axis::row, ScaleRounding::exact}), {up})[0].values[0], 3);
    const HostTensor none = tensor(Dtype::f32, {0, 2}, {});
    EXPECT_EQ(run(as_is(SmoothFactors{Axis::column}), {none})[0].values, (V{0x1p-24, 0x1p-24}));
}

}  // namespace
}  // namespace octavo::test
