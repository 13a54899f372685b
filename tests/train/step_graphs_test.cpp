#include "train/step_graphs.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "io/scratch.h"
#include "runtime/memory_plan.h"
#include "runtime/run_graph.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;
using test::tiny_options;

struct Case {
    Family family;
    const char* recipe;
};

class Steps : public testing::TestWithParam<Case> {
  protected:
    StepOptions options(Recompute level) const {
        StepOptions o = tiny_options(GetParam().family, GetParam().recipe);
        o.recompute = level;
        return o;
    }
};

constexpr Recompute kLevels[] = {Recompute::none, Recompute::norms, Recompute::ffn,
                                 Recompute::block};

// Three steps: loss bits, all of State in the end.
std::pair<std::vector<float>, std::map<std::string, std::vector<std::byte>>> train(
    const StepOptions& o) {
    Session s(o, /*accumulates=*/true);
    std::vector<float> losses;
    for (int step = 1; step <= 3; ++step) {
        losses.push_back(s.micro(test::random_batch(o, 10 + static_cast<std::uint64_t>(step))));
        losses.push_back(s.micro(test::random_batch(o, 1), /*first=*/false));
        if (step < 3) s.program.update(1e-2, step);  // the last gradients stay to be compared
    }
    std::map<std::string, std::vector<std::byte>> state;
    for (const State::Entry& e : s.state().entries()) {
        auto& bytes = state[e.name] = test::read_all(s.state(), e.name);
        // What pads a copied number is whatever lay behind it.
        if (e.type.scaling == kUnscaled) bytes.resize(static_cast<std::size_t>(data_bytes(e.type)));
    }
    return {losses, state};
}

TEST_P(Steps, RecomputeKeepsEveryBit) {
    const auto want = train(options(Recompute::none));
    for (const Recompute level : {Recompute::norms, Recompute::ffn, Recompute::block}) {
        SCOPED_TRACE(static_cast<int>(level));
        const auto got = train(options(level));
        EXPECT_EQ(got.first, want.first);
        for (const auto& [name, bytes] : want.second) {
            EXPECT_TRUE(got.second.at(name) == bytes) << name << " differs";
        }
    }
}

// What a GPU's quantisers compute on the way is what the ops before them would have written.
TEST_P(Steps, FusedQuantisersKeepEveryBit) {
    for (const Recompute level : kLevels) {
        SCOPED_TRACE(static_cast<int>(level));
        StepOptions o = options(level);
        o.target.k_major_fp8 = true;
        const Graph apart = micro_graph(o, true), apart_eval = eval_graph(o);
        o.target.fused_quantisers = true;
        const Graph joined = micro_graph(o, true), joined_eval = eval_graph(o);
        test::expect_same_bits(test::run_graph(joined), test::run_graph(apart));
        test::expect_same_bits(test::run_graph(joined_eval), test::run_graph(apart_eval));
    }
}

TEST_P(Steps, RecomputeSavesMemory) {
    std::vector<std::int64_t> arena;
    for (const Recompute level : kLevels) {
        StepOptions o = options(level);
        o.architecture.layers = 6;
        o.seq = 64;
        arena.push_back(plan_memory(micro_graph(o, false)).arena_bytes);
    }
    EXPECT_LE(arena[1], arena[0]);
    EXPECT_LE(arena[2], arena[1]);
    EXPECT_LT(arena[3], arena[2]);
    EXPECT_LT(arena[3], arena[0] / 2);
}

TEST_P(Steps, RecomputeWithoutFusionRunsToo) {
    StepOptions o = options(Recompute::none);
    o.fuse = false;
    const auto want = train(o);
    o.recompute = Recompute::block;
    const auto got = train(o);
    EXPECT_EQ(got.first, want.first);
    for (const auto& [name, bytes] : want.second) {
        EXPECT_TRUE(got.second.at(name) == bytes) << name << " differs";
    }
}

TEST_P(Steps, WeightGradientsDoNotPileUp) {
    // Six more layers cost what they keep for the backward part, not their output gradients too.
    const auto arena = [&](std::int64_t layers) {
        StepOptions o = options(Recompute::block);
        o.architecture.layers = layers;
        o.seq = 64;
        return plan_memory(micro_graph(o, false)).arena_bytes;
    };
    const StepOptions o = options(Recompute::block);
    const std::int64_t stream = o.batch * 64 * o.architecture.hidden_size *
                                static_cast<std::int64_t>(size_of(o.recipe.compute));
    // A layer keeps its input alone, and the scales of its casts.
    EXPECT_LE(arena(12) - arena(6), 6 * (stream + 4 * 256));
}

INSTANTIATE_TEST_SUITE_P(
    All, Steps,
    testing::Values(Case{Family::llama, "fp32"}, Case{Family::llama, "bf16"},
                    Case{Family::llama, "fp8-lm"}, Case{Family::gpt2, "fp32"},
                    Case{Family::gpt2, "bf16"}, Case{Family::gpt2, "fp8-lm"},
                    Case{Family::llama, "moss"}, Case{Family::gpt2, "moss"},
                    Case{Family::llama, "blockwise"}, Case{Family::gpt2, "blockwise"},
                    Case{Family::llama, "smooth-swiglu"}, Case{Family::llama, "scalify"},
                    Case{Family::gpt2, "scalify"}),
    [](const auto& test) {
        std::string text = fmt::format("{}_{}", name(test.param.family), test.param.recipe);
        std::erase(text, '-');
        return text;
    });

TEST(StepGraphs, FusionChangesRoundingOnly) {
    for (const Family family : {Family::llama, Family::gpt2}) {
        StepOptions o = tiny_options(family, "fp32");
        const auto fused = train(o);
        o.fuse = false;
        const auto plain = train(o);
        for (std::size_t i = 0; i < fused.first.size(); ++i) {
            EXPECT_NEAR(fused.first[i], plain.first[i], 1e-5f * plain.first[i]);
        }
    }
}

// For a backend whose products add biases, also those that a layer computes again.
TEST(StepGraphs, ProductsAddTheBiases) {
    for (const char* recipe :
         {"fp32", "bf16", "fp8-lm", "moss", "blockwise", "smooth-swiglu", "scalify"}) {
        for (const Family family : {Family::qwen2, Family::gpt2}) {
            if (family == Family::gpt2 && recipe == std::string_view("smooth-swiglu")) continue;
            SCOPED_TRACE(fmt::format("{} {}", recipe, name(family)));
            StepOptions o = tiny_options(family, recipe);
            o.recompute = Recompute::block;
            o.target = {.k_major_fp8 = true,
                        .accumulate_products = true,
                        .adds_bias = [](const Matmul&, const Type&, const Type&) { return true; },
                        .fused_quantisers = true};
            const Graph g = micro_graph(o, true);
            verify(g);
            int adds = 0, products = 0, accumulating = 0;
            for (const Node& n : g.nodes()) {
                adds += std::holds_alternative<BiasAdd>(n.op);
                const auto* product = std::get_if<Matmul>(&n.op);
                if (!product || !product->bias || n.phase != Phase::forward) continue;
                ++products;
                accumulating += product->accumulate;
            }
            EXPECT_EQ(adds, 0);
            const bool gpt2 = family == Family::gpt2;
            EXPECT_EQ(products, 2 * (gpt2 ? 4 : 3));
            EXPECT_EQ(accumulating, gpt2 ? 4 : 0);
        }
    }
}

TEST(StepGraphs, AGradientOfEarlierBatchesIsAddedInPlace) {
    for (const char* recipe :
         {"fp32", "bf16", "fp8-lm", "moss", "blockwise", "smooth-swiglu", "scalify"}) {
        const StepOptions o = tiny_options(Family::llama, recipe);
        const Graph g = micro_graph(o, true);
        const MemoryPlan plan = plan_memory(g);
        for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
            const auto* store = std::get_if<Store>(&g.node(i).op);
            // A scale is one number, which gradients share.
            if (!store || store->name.starts_with("grad.scale/")) continue;
            EXPECT_FALSE(plan.store_copies[i]) << recipe << " " << store->name;
        }
    }
}

TEST(StepGraphs, TheOptimizerWorksInPlace) {
    const StepOptions o = tiny_options(Family::llama, "fp8-lm");
    const Graph micro = micro_graph(o, false), g = update_graph(o, micro);
    const MemoryPlan plan = plan_memory(g);
    EXPECT_EQ(std::ranges::count(plan.store_copies, true), 0);
    // A norm, a factor, and per weight a few scalars.
    EXPECT_LE(plan.arena_bytes, 16 * 256);
}

// The times go into the report of the tests (--gtest_output); 2 s for all of a run's graphs is the
// bar.
TEST(StepGraphs, EightyLayersCompile) {
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.architecture.layers = 80;
    o.recompute = Recompute::block;
    const auto record = [start = std::chrono::steady_clock::now()](const char* what) {
        const std::chrono::duration<double, std::milli> spent =
            std::chrono::steady_clock::now() - start;
        RecordProperty(what, static_cast<int>(spent.count()));
    };
    const Graph micro = micro_graph(o, false);
    EXPECT_GT(micro.nodes().size(), 80u * 60);
    EXPECT_GT(plan_memory(micro).arena_bytes, 0);
    record("ms_micro");
    for (const Graph& g : {micro_graph(o, true), update_graph(o, micro),
                           refresh_graph(o.recipe, micro), eval_graph(o)}) {
        EXPECT_GT(plan_memory(g).blocks.size(), 0u);
    }
    record("ms_all");
}

}  // namespace
}  // namespace octavo
