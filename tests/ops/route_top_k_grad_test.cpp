#include "ops/expert_choices.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// d gate_j / d logit_e = gate_j (1[e = id_j] - p_e), p over all experts or the chosen ones.
std::vector<double> oracle(const HostTensor& logits, const HostTensor& ids,
                           const HostTensor& dgates, bool normalise) {
    const auto experts = static_cast<std::size_t>(logits.type.shape[1]);
    const auto k = static_cast<std::size_t>(ids.type.shape[1]);
    std::vector<double> want(logits.values.size());
    for (std::size_t t = 0; t < want.size() / experts; ++t) {
        const double* row = &logits.values[t * experts];
        const double* id = &ids.values[t * k];
        std::vector<double> p(experts);
        double sum = 0;
        for (std::size_t e = 0; e < experts; ++e) {
            const bool chosen = std::find(id, id + k, static_cast<double>(e)) != id + k;
            p[e] = normalise && !chosen ? 0 : std::exp(row[e]);
            sum += p[e];
        }
        for (double& each : p) each /= sum;
        for (std::size_t j = 0; j < k; ++j) {
            const auto chosen = static_cast<std::size_t>(id[j]);
            for (std::size_t e = 0; e < experts; ++e) {
                want[t * experts + e] +=
                    dgates.values[t * k + j] * p[chosen] * ((e == chosen ? 1 : 0) - p[e]);
            }
        }
    }
    return want;
}

TEST(RouteTopKGrad, MatchesTheOracle) {
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
        for (const auto& [tokens, experts, k] :
             {std::array<std::int64_t, 3>{1, 1, 1}, {33, 128, 8}, {5, 6, 6}, {257, 60, 4}}) {
            for (const bool normalise : {true, false}) {
                const HostTensor logits = random_tensor(dtype, {tokens, experts}, 4);
                const HostTensor ids = random_choices(tokens, k, experts, 5);
                const HostTensor dgates = random_tensor(dtype, {tokens, k}, 6);
                for_each_kernel(RouteTopKGrad{normalise}, {logits, ids, dgates},
                                [&](const std::vector<HostTensor>& out) {
                                    expect_close(out[0], oracle(logits, ids, dgates, normalise),
                                                 300 * rounding(dtype), rounding(dtype));
                                });
            }
        }
    }
}

}  // namespace
}  // namespace octavo::test
