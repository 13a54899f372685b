#include "ops/expert_choices.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Dispatch, CopiesTokensToTheirRows) {
    for (const std::int64_t c : {1, 7, 264, 2056}) {
        for (const Dtype dtype : kPlainDtypes) {
            for (const std::int64_t alignment : {1, 16}) {
                const Experts e = order(random_choices(19, 3, 5, 2), 5, alignment);
                const HostTensor x = random_tensor(dtype, {19, c}, 1);
                std::vector<double> want;
                for (const double choice : e.choices.values) {
                    for (std::int64_t i = 0; i < c; ++i) {
                        const auto at = static_cast<std::int64_t>(choice) / 3 * c + i;
                        want.push_back(choice < 0 ? 0 : x.values[static_cast<std::size_t>(at)]);
                    }
                }
                for_each_kernel(
                    Dispatch{}, {x, e.rows, e.choices},
                    [&](const std::vector<HostTensor>& out) { EXPECT_EQ(out[0].values, want); });
            }
        }
    }
}

TEST(Dispatch, Gradient) {
    const Experts e = order(random_choices(4, 2, 3, 2), 3, 4);
    check_gradient(as_is(Dispatch{}), {random_tensor(Dtype::f64, {4, 5}, 1), e.rows, e.choices},
                   {0});
}

TEST(Dispatch, RefusesOtherTypes) {
    EXPECT_EQ(
        refusal(as_is(Dispatch{}), {{Dtype::f32, {3, 2}}, {Dtype::i32, {4, 2}}, {Dtype::i32, {8}}}),
        "dispatch: operand 1 must have shape [3, 2], got i32[4, 2]");
}

}  // namespace
}  // namespace octavo::test
