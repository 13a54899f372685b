// Output gradients that are rounded up or down at random (arXiv 2409.12517).
#include <gtest/gtest.h>

#include "recipes/graph_queries.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::names_of;
using test::nodes_of;
using test::Session;

StepOptions options(std::string_view recipe, Family family = Family::llama) {
    StepOptions o = test::tiny_options(family, recipe);
    o.recipe.gradient_noise = 7;
    return o;
}

std::set<std::string> slots(const Graph& g) {
    std::set<std::string> names;
    for (const DelayedState& s : delayed_states(g)) names.insert(s.slot);
    return names;
}

class GradRounding : public testing::TestWithParam<const char*> {};

TEST_P(GradRounding, IsOfAllOutputGradientsAndNothingElse) {
    StepOptions nearest = options(GetParam());
    nearest.recipe.gradient_noise.reset();
    for (const bool fuse : {true, false}) {
        for (const bool k_major : {true, false}) {
            StepOptions o = options(GetParam());
            o.fuse = nearest.fuse = fuse;
            o.target.k_major_fp8 = nearest.target.k_major_fp8 = k_major;
            o.target.fused_quantisers = nearest.target.fused_quantisers = k_major;
            const Graph g = micro_graph(o, false);
            verify(g);
            std::set<std::uint32_t> tensors;
            for (const Node* n : nodes_of<Quantise>(g)) {
                const auto& op = std::get<Quantise>(n->op);
                if (op.to != Dtype::e5m2) continue;
                ASSERT_TRUE(op.noise) << n->label;
                EXPECT_EQ(op.noise->seed, 7u);
                EXPECT_EQ(std::get<Input>(g.node(g.producer(n->in[2])).op).name, kDrawInput);
                EXPECT_TRUE(tensors.insert(op.noise->tensor).second) << n->label;
            }
            EXPECT_EQ(tensors.size(), 14u);
            for (const Node* n : nodes_of<DelayedQuantise>(g)) {
                EXPECT_EQ(std::get<DelayedQuantise>(n->op).rule.to, Dtype::e4m3) << n->label;
            }
            EXPECT_EQ(slots(g), slots(micro_graph(nearest, false)));
            EXPECT_EQ(names_of(g, true, "scale.history/"),
                      names_of(micro_graph(nearest, false), true, "scale.history/"));
            EXPECT_EQ(to_text(eval_graph(o)), to_text(eval_graph(nearest)));
            EXPECT_EQ(to_text(inspection_graph(o, true)), to_text(inspection_graph(nearest, true)));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Recipes, GradRounding, testing::Values("fp8-lm", "smooth-swiglu"),
                         [](const auto& test) {
                             return std::string(test.param == std::string("fp8-lm") ? "fp8lm"
                                                                                    : "smooth");
                         });

std::vector<float> gradient(Session& s, const test::TokenBatch& batch, std::int64_t number) {
    s.program.micro(batch.ids, batch.targets, 1.0f / 32, true, {}, number);
    return test::read_f32(s.state(), gradient_name("model.layers.0.mlp.up_proj.weight"));
}

// The numbers of micro-batches are what the random numbers depend on.
TEST(GradRoundingOfMicroBatches, IsAFunctionOfTheirNumber) {
    for (const bool fuse : {true, false}) {
        StepOptions o = options("fp8-lm");
        o.fuse = fuse;
        Session s(o), again(o);
        const auto batch = test::random_batch(o, 1);
        const auto first = gradient(s, batch, 0), second = gradient(s, batch, 1);
        EXPECT_NE(first, second);
        EXPECT_EQ(first, gradient(s, batch, 0));
        EXPECT_EQ(second, gradient(again, batch, 1));
        o.recipe.gradient_noise = 8;
        Session other(o);
        EXPECT_NE(first, gradient(other, batch, 0));
    }
}

// Over many draws the gradient of a last layer's weight is that of unrounded output gradients,
// where to nearest it is off.
TEST(GradRoundingOfMicroBatches, IsRightOnAverage) {
    constexpr int kDraws = 400;
    const std::string name = gradient_name("model.layers.1.mlp.down_proj.weight");
    StepOptions exact = options("fp8-lm");
    exact.recipe.gradient_noise.reset();
    StepOptions nearest = exact;
    exact.recipe.output_grad.reset();
    const auto batch = test::random_batch(exact, 1);
    const auto one = [&](const StepOptions& o) {
        Session s(o);
        s.micro(batch);
        return test::read_f32(s.state(), name);
    };
    const std::vector<float> want = one(exact), rounded = one(nearest);
    Session s(options("fp8-lm"));
    std::vector<double> sum(want.size());
    for (int i = 0; i < kDraws; ++i) {
        s.program.micro(batch.ids, batch.targets, 1.0f / 32, true, {}, i);
        const std::vector<float> g = test::read_f32(s.state(), name);
        for (std::size_t k = 0; k < g.size(); ++k) sum[k] += g[k];
    }
    double random_error = 0, nearest_error = 0, size = 0;
    for (std::size_t k = 0; k < want.size(); ++k) {
        random_error += std::pow(sum[k] / kDraws - want[k], 2);
        nearest_error += std::pow(double{rounded[k]} - want[k], 2);
        size += std::pow(want[k], 2);
    }
    // Noise of one draw is at most twice as large as the error of rounding to nearest.
    EXPECT_LT(std::sqrt(random_error), 2.5 * std::sqrt(nearest_error / kDraws));
    EXPECT_GT(std::sqrt(nearest_error / size), 0.01);
}

}  // namespace
}  // namespace octavo
