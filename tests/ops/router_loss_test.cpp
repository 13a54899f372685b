#include "ops/expert_choices.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// load_balancing_loss_func of transformers over the concatenated routers, and the z-loss.
double oracle(const RouterLoss& op, const std::vector<HostTensor>& in) {
    const auto experts = static_cast<std::size_t>(in[1].type.shape[1]);
    const auto tokens = static_cast<std::size_t>(in[1].type.shape[0]);
    std::vector<double> share(experts), probability(experts);
    double squares = 0;
    const double n = static_cast<double>(tokens * (in.size() / 2));
    for (std::size_t i = 1; i < in.size(); i += 2) {
        for (std::size_t t = 0; t < tokens; ++t) {
            double sum = 0;
            for (std::size_t e = 0; e < experts; ++e) {
                sum += std::exp(in[i].values[t * experts + e]);
            }
            for (std::size_t e = 0; e < experts; ++e) {
                probability[e] += std::exp(in[i].values[t * experts + e]) / sum / n;
            }
            squares += std::log(sum) * std::log(sum) / n;
        }
        for (const double id : in[i + 1].values) share[static_cast<std::size_t>(id)] += 1 / n;
    }
    double balance = 0;
    for (std::size_t e = 0; e < experts; ++e) balance += share[e] * probability[e];
    return in[0].values[0] * static_cast<double>(tokens) *
           (op.balance * static_cast<double>(experts) * balance + op.z * squares);
}

std::vector<HostTensor> routers(Dtype dtype, std::int64_t layers, std::int64_t tokens,
                                std::int64_t experts, std::int64_t k) {
    std::vector<HostTensor> in{tensor(dtype, {1}, {1.0 / 64})};
    for (std::int64_t l = 0; l < layers; ++l) {
        const auto seed = static_cast<std::uint64_t>(l);
        in.push_back(random_tensor(dtype, {tokens, experts}, 10 + seed, 2));
        in.push_back(random_choices(tokens, k, experts, 30 + seed));
    }
    return in;
}

TEST(RouterLoss, MatchesTheOracle) {
    const RouterLoss op{0.5f, 0.25f};
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
        for (const auto& [layers, tokens, experts, k] : {std::array<std::int64_t, 4>{1, 1, 1, 1},
                                                         {1, 5, 4, 2},
                                                         {3, 129, 60, 4},
                                                         {2, 700, 128, 8}}) {
            const auto in = routers(dtype, layers, tokens, experts, k);
            for_each_kernel(op, in, [&](const std::vector<HostTensor>& out) {
                expect_close(out[0], {oracle(op, in)}, 1000 * rounding(dtype));
            });
        }
    }
}

// Tokens that are spread evenly, by routers that are sure of nothing, cost balance k.
TEST(RouterLoss, IsLeastWhereExpertsShareAlike) {
    const HostTensor logits = tensor(Dtype::f32, {4, 4}, std::vector<double>(16, 0.0));
    const HostTensor even = tensor(Dtype::i32, {4, 1}, {0, 1, 2, 3});
    const HostTensor weight = tensor(Dtype::f32, {1}, {0.25});
    expect_close(run(as_is(RouterLoss{1, 0}), {weight, logits, even})[0], {1}, 1e-6);
}

TEST(RouterLoss, Gradient) {
    check_gradient(as_is(RouterLoss{0.5f, 0.25f}), routers(Dtype::f64, 2, 3, 5, 2), {1, 3});
}

TEST(RouterLoss, RefusesRoutersThatDiffer) {
    const Type one{Dtype::f32, {1}}, ids{Dtype::i32, {3, 2}};
    EXPECT_EQ(refusal(as_is(RouterLoss{}), {one, {Dtype::f32, {3, 4}}}),
              "router_loss: expected logits and ids of one router or more, got 2 operands");
    EXPECT_EQ(
        refusal(as_is(RouterLoss{}), {one, {Dtype::f32, {3, 4}}, ids, {Dtype::f32, {3, 5}}, ids}),
        "router_loss: operands 1 and 3 must have the same type, got f32[3, 4] and f32[3, 5]");
}

}  // namespace
}  // namespace octavo::test
