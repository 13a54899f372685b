#include "ops/expert_choices.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(CombineGrad, MatchesTheOracle) {
    for (const std::int64_t c : {1, 7, 264, 2056}) {
        for (const Dtype dtype : kPlainDtypes) {
            const Experts e = order(random_choices(19, 3, 5, 2), 5, 16);
            const HostTensor dout = random_tensor(dtype, {19, c}, 1);
            const HostTensor y = random_tensor(dtype, {e.row_count(), c}, 2);
            const HostTensor gates = random_tensor(accumulator(dtype), {19, 3}, 3);
            const auto at = [&](const HostTensor& x, std::int64_t row, std::int64_t i) {
                return x.values[static_cast<std::size_t>(row * c + i)];
            };
            std::vector<double> dy, dgates;
            for (const double choice : e.choices.values) {
                const auto n = static_cast<std::int64_t>(choice);
                for (std::int64_t i = 0; i < c; ++i) {
                    dy.push_back(
                        n < 0 ? 0 : gates.values[static_cast<std::size_t>(n)] * at(dout, n / 3, i));
                }
            }
            for (std::int64_t n = 0; n < 19 * 3; ++n) {
                const auto row =
                    static_cast<std::int64_t>(e.rows.values[static_cast<std::size_t>(n)]);
                double sum = 0;
                for (std::int64_t i = 0; i < c; ++i) sum += at(dout, n / 3, i) * at(y, row, i);
                dgates.push_back(sum);
            }
            for_each_kernel(CombineGrad{}, {dout, y, e.rows, e.choices, gates},
                            [&](const std::vector<HostTensor>& out) {
                                expect_close(out[0], dy, test::tolerance(dtype, 1));
                                expect_close(
                                    out[1], dgates,
                                    rounding(accumulator(dtype)) * (4.0 + static_cast<double>(c)));
                            });
        }
    }
}

}  // namespace
}  // namespace octavo::test
