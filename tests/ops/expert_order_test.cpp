#include "ops/expert_choices.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct OrderCase {
    std::int64_t tokens, k, experts, alignment, idle = 0;
};

class ExpertOrderTest : public testing::TestWithParam<OrderCase> {};

TEST_P(ExpertOrderTest, SortsChoicesByExpert) {
    const OrderCase c = GetParam();
    const HostTensor ids = random_choices(c.tokens, c.k, c.experts, 5, c.idle);
    const Experts want = order(ids, c.experts, c.alignment);
    std::vector<double> counts(static_cast<std::size_t>(c.experts));
    for (const double id : ids.values) counts[static_cast<std::size_t>(id)] += 1;
    for_each_kernel(ExpertOrder{c.experts, c.alignment}, {ids},
                    [&](const std::vector<HostTensor>& out) {
                        EXPECT_EQ(out[0].values, want.rows.values);
                        EXPECT_EQ(out[1].values, want.choices.values);
                        EXPECT_EQ(out[2].values, want.offsets.values);
                        EXPECT_EQ(out[3].values, counts);
                    });
}

INSTANTIATE_TEST_SUITE_P(Cases, ExpertOrderTest,
                         testing::Values(OrderCase{1, 1, 1, 1}, OrderCase{1, 2, 8, 128},
                                         OrderCase{5, 2, 4, 1}, OrderCase{33, 8, 128, 16},
                                         OrderCase{300, 3, 7, 128, 2}, OrderCase{0, 2, 4, 16},
                                         OrderCase{2500, 4, 60, 1, 30},
                                         OrderCase{9000, 1, 2, 128, 1}));

TEST(ExpertOrder, HasRoomForAllTokensAtOneExpert) {
    const std::vector<double> ids(40, 3);
    const auto out = run(as_is(ExpertOrder{4, 16}), {tensor(Dtype::i32, {40, 1}, ids)});
    EXPECT_EQ(out[2].values, (std::vector<double>{0, 0, 0, 0, 48}));
    EXPECT_GE(out[1].type.shape[0], 48);
}

TEST(ExpertOrder, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(ExpertOrder{4, 16}), {{Dtype::f32, {3, 2}}}),
              "expert_order: operand 0 must be unscaled i32, got f32[3, 2]");
    EXPECT_EQ(refusal(as_is(ExpertOrder{0, 16}), {{Dtype::i32, {3, 2}}}),
              "expert_order: expected experts and an alignment above 0, got 0 and 16");
}

}  // namespace
}  // namespace octavo::test
