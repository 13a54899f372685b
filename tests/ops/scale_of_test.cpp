#include "ops/scaling_test.h"

namespace octavo::test {
namespace {

TEST(ScaleOf, CopiesTheScale) {
    const HostTensor x = scaled_tensor(Dtype::e4m3, {0x38, 0x40, 0x7F}, 0.3f);
    const HostTensor s = run(as_is(ScaleOf{}), {x})[0];
    EXPECT_EQ(s.type, (Type{Dtype::f32, {1}}));
    EXPECT_EQ(s.values[0], 0.3f);
    EXPECT_EQ(run(as_is(ScaleOf{}), {scaled_tensor(Dtype::e5m2, {}, 7.0f)})[0].values[0], 7.0);
}

TEST(ScaleOf, RefusesTensorsWithoutOneScale) {
    EXPECT_EQ(refusal(as_is(ScaleOf{}), {{Dtype::f32, {4}}}),
              "scale_of: operand 0 must have one f32 scale for the whole tensor, got f32[4]");
    EXPECT_EQ(refusal(as_is(ScaleOf{}), {{Dtype::e4m3, {4, 8}, {.granularity = Granularity::row}}}),
              "scale_of: operand 0 must have one f32 scale for the whole tensor, got e4m3[4, 8] x "
              "row");
}

}  // namespace
}  // namespace octavo::test
