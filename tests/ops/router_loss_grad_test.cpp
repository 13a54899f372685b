#include "ops/expert_choices.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// Every kernel in f32 against the one in f64, whose gradients router_loss_test.cpp checks.
TEST(RouterLossGrad, EveryKernelAgreesWithF64) {
    const RouterLossGrad op{0.5f, 0.25f};
    for (const auto& [tokens, experts, k] :
         {std::array<std::int64_t, 3>{1, 1, 1}, {5, 4, 2}, {129, 60, 4}, {700, 128, 8}}) {
        const auto operands = [&](Dtype dtype) {
            std::vector<HostTensor> in{tensor(dtype, {1}, {1.0 / 64}), tensor(dtype, {1}, {2})};
            for (const std::uint64_t l : {0u, 1u}) {
                const HostTensor logits = random_tensor(Dtype::f32, {tokens, experts}, 10 + l, 2);
                in.push_back(tensor(dtype, logits.type.shape, logits.values));
                in.push_back(random_choices(tokens, k, experts, 30 + l));
            }
            return in;
        };
        const auto want = run(as_is(op), operands(Dtype::f64));
        for_each_kernel(op, operands(Dtype::f32), [&](const std::vector<HostTensor>& out) {
            for (std::size_t i = 0; i < 2; ++i) {
                expect_close(out[i], want[i].values, 1000 * rounding(Dtype::f32));
            }
        });
    }
}

}  // namespace
}  // namespace octavo::test
