#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Routes {
    std::vector<double> gates, ids;
};

Routes oracle(const HostTensor& logits, std::size_t k, bool normalise) {
    const auto experts = static_cast<std::size_t>(logits.type.shape[1]);
    Routes want;
    for (std::size_t t = 0; t < logits.values.size() / experts; ++t) {
        const double* row = &logits.values[t * experts];
        std::vector<std::size_t> by_logit(experts);
        for (std::size_t e = 0; e < experts; ++e) by_logit[e] = e;
        std::ranges::stable_sort(by_logit, [&](auto a, auto b) { return row[a] > row[b]; });
        double sum = 0;
        for (std::size_t e = 0; e < (normalise ? k : experts); ++e) {
            sum += std::exp(row[by_logit[e]] - row[by_logit[0]]);
        }
        for (std::size_t j = 0; j < k; ++j) {
            want.ids.push_back(static_cast<double>(by_logit[j]));
            want.gates.push_back(std::exp(row[by_logit[j]] - row[by_logit[0]]) / sum);
        }
    }
    return want;
}

TEST(RouteTopK, ChoosesTheLargest) {
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
        for (const auto& [tokens, experts, k] : {std::array<std::int64_t, 3>{1, 1, 1},
                                                 {5, 8, 2},
                                                 {33, 128, 8},
                                                 {3, 6, 6},
                                                 {0, 4, 2},
                                                 {257, 60, 4},
                                                 {40, 200, 3}}) {
            for (const bool normalise : {true, false}) {
                const HostTensor logits = random_tensor(dtype, {tokens, experts}, 4, 2);
                const Routes want = oracle(logits, static_cast<std::size_t>(k), normalise);
                for_each_kernel(RouteTopK{k, normalise}, {logits},
                                [&](const std::vector<HostTensor>& out) {
                                    EXPECT_EQ(out[1].values, want.ids);
                                    expect_close(out[0], want.gates, 300 * rounding(dtype));
                                });
            }
        }
    }
}

TEST(RouteTopK, TiesGoToTheLowerExpertAndNanComesLast) {
    const HostTensor logits =
        tensor(Dtype::f32, {3, 4}, {1, 2, 2, 2, kNan, 0, kNan, -1, kNan, kNan, kNan, kNan});
    const auto out = run(as_is(RouteTopK{2, true}), {logits});
    EXPECT_EQ(out[1].values, (std::vector<double>{1, 2, 1, 3, 0, 1}));
}

// What a rollout has chosen is chosen again, with the logits of now.
TEST(RouteTopK, ReplaysGivenExperts) {
    const HostTensor logits = tensor(Dtype::f32, {2, 4}, {2, 1, 0, -1, 2, 1, 0, -1});
    const auto native = run(as_is(RouteTopK{2, true}), {logits});
    expect_close(native[0], {0.7310586, 0.2689414, 0.7310586, 0.2689414}, 1e-7);
    const HostTensor ids = tensor(Dtype::i32, {2, 2}, {0, 2, -1, -1});
    const auto replay = run(as_is(RouteTopK{2, true}), {logits, ids});
    EXPECT_EQ(replay[1].values, (std::vector<double>{0, 2, 0, 1}));
    expect_close(replay[0], {0.8807971, 0.1192029, 0.7310586, 0.2689414}, 1e-7);
    const HostTensor dgates = tensor(Dtype::f32, {2, 2}, {1, -2, 0, 0});
    const auto d = run(as_is(RouteTopKGrad{true}), {logits, replay[1], dgates})[0];
    EXPECT_NE(d.values[0], 0);
    EXPECT_EQ(d.values[1], 0);
    EXPECT_NEAR(d.values[2], -d.values[0], 1e-7);
    EXPECT_EQ(d.values[3], 0);
}

TEST(RouteTopK, Gradient) {
    const HostTensor logits = random_tensor(Dtype::f64, {5, 6}, 7, 2);
    for (const bool normalise : {true, false}) {
        const Build gates = [&](Builder& b, const Values& in) {
            return Values{b.emit(RouteTopK{3, normalise}, in)[0]};
        };
        check_gradient(gates, {logits}, {0});
    }
}

TEST(RouteTopK, RefusesMoreExpertsThanThereAre) {
    EXPECT_EQ(refusal(as_is(RouteTopK{5}), {{Dtype::f32, {3, 4}}}),
              "route_top_k: expected 1 to 4 experts a token, got 5");
    EXPECT_EQ(refusal(as_is(RouteTopK{2}), {{Dtype::bf16, {3, 4}}}),
              "route_top_k: operand 0 must be unscaled f32, got bf16[3, 4]");
}

}  // namespace
}  // namespace octavo::test
