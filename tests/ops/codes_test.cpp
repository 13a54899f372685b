#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Codes, AreWhatLiesBesideTheScale) {
    HostTensor x = vector(Dtype::f16, {1, -2, 448});
    x.type.scaling = kPerTensor;
    x.scales = {0.25f};
    const auto y =
        run([](Builder& b,
               const Values& in) { return Values{b.cast(b.one(Codes{}, {in[0]}), Dtype::f32)}; },
            {x});
    EXPECT_EQ(y[0].values, (std::vector<double>{1, -2, 448}));
}

TEST(Codes, NeedAScale) {
    EXPECT_EQ(refusal(as_is(Codes{}), {{Dtype::f16, {3}}}),
              "codes: operand 0 must have one f32 scale for the whole tensor, got f16[3]");
}

}  // namespace
}  // namespace octavo::test
