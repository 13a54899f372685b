#include "ops/expert_choices.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Combine, AddsTheRowsOfAToken) {
    for (const std::int64_t c : {1, 7, 264, 2056}) {
        for (const Dtype dtype : kPlainDtypes) {
            for (const bool gated : {true, false}) {
                const Experts e = order(random_choices(19, 3, 5, 2), 5, 16);
                const HostTensor y = random_tensor(dtype, {e.row_count(), c}, 1);
                const HostTensor gates = random_tensor(accumulator(dtype), {19, 3}, 3);
                std::vector<double> want;
                for (std::size_t t = 0; t < 19; ++t) {
                    for (std::int64_t i = 0; i < c; ++i) {
                        double sum = 0;
                        for (std::size_t j = 3 * t; j < 3 * t + 3; ++j) {
                            const auto row = static_cast<std::int64_t>(e.rows.values[j]);
                            sum += (gated ? gates.values[j] : 1) *
                                   y.values[static_cast<std::size_t>(row * c + i)];
                        }
                        want.push_back(sum);
                    }
                }
                std::vector<HostTensor> in{y, e.rows, e.choices};
                if (gated) in.push_back(gates);
                for_each_kernel(Combine{}, in, [&](const std::vector<HostTensor>& out) {
                    expect_close(out[0], want, test::tolerance(dtype, 4));
                });
            }
        }
    }
}

TEST(Combine, Gradient) {
    const Experts e = order(random_choices(4, 2, 3, 2), 3, 4);
    const HostTensor y = random_tensor(Dtype::f64, {e.row_count(), 5}, 1);
    check_gradient(as_is(Combine{}), {y, e.rows, e.choices}, {0});
    check_gradient(as_is(Combine{}), {y, e.rows, e.choices, random_tensor(Dtype::f64, {4, 2}, 3)},
                   {0, 3});
}

TEST(Combine, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(Combine{}), {{Dtype::bf16, {8, 2}},
                                         {Dtype::i32, {3, 2}},
                                         {Dtype::i32, {8}},
                                         {Dtype::bf16, {3, 2}}}),
              "combine: operand 3 must be unscaled f32, got bf16[3, 2]");
}

}  // namespace
}  // namespace octavo::test
