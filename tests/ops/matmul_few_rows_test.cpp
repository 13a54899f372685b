// Products of a few rows with a weight, as decoding has them in FP8.
#include "ops/block_quantise_oracle.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Case {
    std::int64_t m, n, k;
    Dtype out = Dtype::bf16;
    bool bias = false, accumulate = false;
};

std::vector<Case> cases() {
    std::vector<Case> all;
    for (const std::int64_t m : {1, 7, 16, 17, 33, 64}) {
        all.push_back({m, 256, 512});
        all.push_back({m, 136, 272, Dtype::f32, true, false});
    }
    all.push_back({1, 8, 16, Dtype::f32});
    all.push_back({3, 24, 144, Dtype::bf16, false, true});
    all.push_back({64, 128, 4096, Dtype::bf16, true, true});  // eight blocks share K
    all.push_back({50, 264, 1024, Dtype::f32, true, true});
    all.push_back({4, 17024, 64});  // more tiles than multiprocessors
    return all;
}

TEST(MatmulFewRows, IsTheProductOfTheValues) {
    std::uint64_t seed = 100;
    for (const Case& c : cases()) {
        SCOPED_TRACE(fmt::format("{} x {} x {}", c.m, c.n, c.k));
        const HostTensor x =
            block_quantise_oracle({.scaling = {Granularity::block_1x128}, .floor = 0x1p-100f},
                                  random_tensor(Dtype::bf16, {c.m, c.k}, ++seed));
        const HostTensor w =
            block_quantise_oracle({.scaling = {Granularity::block_128x128}, .floor = 0x1p-100f},
                                  random_tensor(Dtype::bf16, {c.n, c.k}, ++seed));
        std::vector<HostTensor> in{x, w};
        if (c.bias) in.push_back(random_tensor(c.out, {c.n}, ++seed));
        if (c.accumulate) in.push_back(random_tensor(c.out, {c.m, c.n}, ++seed));
        const Matmul op{.trans_b = true,
                        .kind = MatmulKind::fprop,
                        .out = c.out,
                        .bias = c.bias,
                        .accumulate = c.accumulate};
        // Of the exact sum: f32 sums in any order, FP8 blocks in the tensor cores' 14 bits, and the
        // result's rounding; one more each for kernels that round the product before they add.
        const double sums = on_cuda() ? 0x1p-12 : 0x1p-20;
        const double rounding = c.out == Dtype::bf16 ? 0x1p-8 : 0x1p-23;
        std::vector<double> want, allowed;
        for (std::int64_t i = 0; i < c.m; ++i) {
            for (std::int64_t j = 0; j < c.n; ++j) {
                double sum = 0, size = 0, added = 0;
                for (std::int64_t k = 0; k < c.k; ++k) {
                    const double term = x.values[i * c.k + k] * w.values[j * c.k + k];
                    sum += term;
                    size += std::abs(term);
                }
                if (c.bias) added += in[2].values[j];
                if (c.accumulate) added += in.back().values[i * c.n + j];
                want.push_back(sum + added);
                allowed.push_back(
                    sums * size +
                    rounding * (std::abs(sum + added) + 2 * std::abs(sum) + 2 * std::abs(added)));
            }
        }
        const auto names = for_each_kernel(op, in, [&](std::string_view name, const auto& out) {
            for (std::size_t i = 0; i < want.size(); ++i) {
                ASSERT_NEAR(out[0].values[i], want[i], allowed[i]) << name << " at " << i;
            }
        });
        EXPECT_FALSE(names.empty());
        if (on_cuda()) {
            EXPECT_EQ(names[0], "few_rows");
        }
    }
}

}  // namespace
}  // namespace octavo::test
