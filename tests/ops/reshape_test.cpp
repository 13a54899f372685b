#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Reshape, KeepsTheElements) {
    for (Dtype dtype : kPlainDtypes) {
        const HostTensor x = random_tensor(dtype, {2, 6}, 1);
        const auto y = run(as_is(Reshape{{3, 4}}), {x})[0];
        EXPECT_EQ(y.type, (Type{dtype, {3, 4}}));
        EXPECT_EQ(y.values, x.values);
    }
    EXPECT_EQ(run(as_is(Reshape{{}}), {vector(Dtype::f32, {5})})[0].values[0], 5);
    EXPECT_EQ(run(as_is(Reshape{{3, 0}}), {tensor(Dtype::f32, {0, 2}, {})})[0].type.shape,
              (Shape{3, 0}));
}

TEST(Reshape, KeepsTheScaleOfATensor) {
    const auto y = run(as_is(Reshape{{2, 2}}), {scaled_tensor(Dtype::e4m3, {1, 2, 3, 4}, 0.5f)})[0];
    EXPECT_EQ(y.type, (Type{Dtype::e4m3, {2, 2}, kPerTensor}));
    EXPECT_EQ(y.scales[0], 0.5f);
}

TEST(Reshape, Gradient) {
    check_gradient(as_is(Reshape{{3, 2, 2}}), {random_tensor(Dtype::f64, {2, 6}, 1)}, {0});
}

TEST(Reshape, Refuses) {
    EXPECT_EQ(refusal(as_is(Reshape{{3, 3}}), {{Dtype::f32, {2, 4}}}),
              "reshape: [3, 3] does not have as many elements as f32[2, 4]");
    const Type rows{Dtype::e4m3, {2, 4}, {.granularity = Granularity::row}};
    EXPECT_EQ(refusal(as_is(Reshape{{4, 2}}), {rows}),
              "reshape: expected one scale per tensor or none, got e4m3[2, 4] x row");
}

}  // namespace
}  // namespace octavo::test
