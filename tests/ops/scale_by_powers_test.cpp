#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(ScaleByPowers, EachForItself) {
    ScaleByPowers op;
    for (int i = 0; i < 150; ++i) op.exponents.push_back(i % 60 - 30);
    const auto out = run(as_is(op), {scalar(0.75)});
    ASSERT_EQ(out.size(), op.exponents.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
        EXPECT_EQ(out[i].values[0], std::ldexp(0.75, op.exponents[i]));
    }
}

TEST(ScaleByPowers, RefusesVectors) {
    EXPECT_EQ(refusal(as_is(ScaleByPowers{{1}}), {{Dtype::f32, {2}}}),
              "scale_by_powers: operand 0 must have shape [1], got f32[2]");
}

}  // namespace
}  // namespace octavo::test
