// Linear layers that a recipe leaves in bf16, by name.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/layer_name.h"
#include "passes/fuse.h"
#include "recipes/graph_queries.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::names_of;
using test::nodes_of;

struct Case {
    const char* recipe;
    Family family = Family::llama;
    std::vector<std::string> names = {"down_proj"};
    Axis axis = Axis::row;  // of Smooth-SwiGLU
};

StepOptions options(const Case& c) {
    StepOptions o = test::tiny_options(c.family, c.recipe);
    if (c.family == Family::qwen3_moe) {
        o.architecture.intermediate_size = 128;
        o.architecture.hidden_size = 128;
        o.architecture.experts = {.count = 4, .per_token = 2, .intermediate_size = 128};
    }
    if (o.recipe.propagation) o.recipe.compute = Dtype::bf16;
    if (o.recipe.smooth) o.recipe.smooth->axis = c.axis;
    o.recipe.in_compute = c.names;
    return o;
}

bool is_named(const Case& c, std::string_view layer) {
    return std::ranges::any_of(c.names, [&](const auto& n) { return names_layer(n, layer); });
}

class LayersInCompute : public testing::TestWithParam<Case> {};

TEST_P(LayersInCompute, HaveProductsAndWeightsInBf16) {
    for (const bool fuse : {true, false}) {
        StepOptions o = options(GetParam());
        o.fuse = fuse;
        o.target.k_major_fp8 = fuse;
        const Graph g = micro_graph(o, false);
        verify(g);
        verify(update_graph(o, g));
        verify(eval_graph(o));
        verify(refresh_graph(o.recipe, g));
        std::size_t kept = 0, quantised = 0;
        for (const Node& n : g.nodes()) {
            const auto* m = std::get_if<Matmul>(&n.op);
            if (!m || m->kind == MatmulKind::plain || test::is_head(n)) continue;
            const bool named = is_named(GetParam(), n.label);
            for (const Value v : {n.in[0], n.in[1]}) {
                EXPECT_EQ(is_fp8(g.type(v).dtype), !named) << n.label;
                if (!named) continue;
                EXPECT_EQ(g.type(v), (Type{Dtype::bf16, g.type(v).shape})) << n.label;
            }
            (named ? kept : quantised)++;
        }
        EXPECT_GT(kept, 0u);
        EXPECT_GT(quantised, 0u);
        for (const DelayedState& s : delayed_states(g)) {
            const std::string layer = s.slot.substr(0, s.slot.rfind('.'));
            EXPECT_FALSE(is_named(GetParam(), layer)) << s.slot;
        }
        std::set<std::string> tables;
        for (const Parameter& p : parameters(o.architecture)) {
            if (p.table) tables.insert(p.name);
        }
        for (const WorkingWeight& w : working_weights(o.recipe, g)) {
            const std::string layer = w.weight.substr(0, w.weight.rfind('.'));
            // Channels' factors are multiplied into a copy in bf16.
            const bool folds = GetParam().axis == Axis::column && names_layer("down_proj", layer);
            const bool wide = is_named(GetParam(), layer) || tables.contains(w.weight) || folds;
            EXPECT_EQ(w.type.dtype, wide ? Dtype::bf16 : Dtype::e4m3) << w.state;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, LayersInCompute,
    testing::Values(Case{"fp8-lm"}, Case{"fp8-lm", Family::gpt2, {"h.0", "h.1.mlp.c_proj"}},
                    Case{"fp8-lm", Family::llama, {"q_proj", "layers.1", "lm_head"}},
                    Case{"smooth-swiglu"},
                    Case{"smooth-swiglu", Family::llama, {"layers.0"}, Axis::column}, Case{"moss"},
                    Case{"blockwise"}, Case{"blockwise", Family::qwen3_moe}, Case{"scalify"}),
    [](const auto& test) {
        std::string name = test.param.recipe + std::to_string(test.index);
        std::erase(name, '-');
        return name;
    });

// With all layers named, a recipe is bf16.
TEST(LayersInCompute, AllOfThemAreBf16) {
    for (const char* recipe : {"fp8-lm", "smooth-swiglu", "moss", "blockwise"}) {
        StepOptions o = options({.recipe = recipe, .names = {"layers", "lm_head"}});
        o.recipe.states = {};
        o.recipe.quantise_head = o.recipe.activation->provider == Provider::delayed;
        const StepOptions want = test::tiny_options(Family::llama, "bf16");
        const Graph g = micro_graph(o, true);
        EXPECT_EQ(to_text(g), to_text(micro_graph(want, true))) << recipe;
        EXPECT_EQ(to_text(update_graph(o, g)), to_text(update_graph(want, g))) << recipe;
    }
    StepOptions o = options({.recipe = "scalify", .names = {"layers"}}), want = o;
    want.recipe.activation = want.recipe.weight = want.recipe.output_grad = std::nullopt;
    EXPECT_EQ(to_text(micro_graph(o, false)), to_text(micro_graph(want, false)));
}

// What several layers read has one slot, named after the first that reads its codes.
TEST(LayersInCompute, LeaveTheSlotToTheNext) {
    const Case c{.recipe = "fp8-lm", .names = {"q_proj", "v_proj"}};
    const Graph g = micro_graph(options(c), false);
    const auto history = names_of(g, /*stores=*/false, "scale.history/model.layers.0.self_attn.");
    const std::string attention = "scale.history/model.layers.0.self_attn.";
    EXPECT_EQ(history, (std::set<std::string>{attention + "k_proj.x", attention + "k_proj.dy",
                                              attention + "o_proj.x", attention + "o_proj.dy"}));
}

// Without a cast of its result there is nothing that a spike could break.
TEST(LayersInCompute, SmoothNoSwiGlu) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const bool step_before : {false, true}) {
            const Case c{"smooth-swiglu", Family::llama, {"layers.0.mlp.down_proj"}, axis};
            StepOptions o = options(c);
            o.fuse = false;
            o.recipe.smooth->step_before = step_before;
            const Graph g = micro_graph(o, false);
            const auto smoothed = nodes_of<SmoothSwiGlu>(g);
            EXPECT_EQ(smoothed.size(), 1u);
            for (const Node* n : smoothed) {
                EXPECT_TRUE(n->label.starts_with("model.layers.1.")) << n->label;
            }
            EXPECT_FALSE(names_of(g, false, "smooth.factor/")
                             .contains("smooth.factor/model.layers.0.mlp.down_proj.weight"));
        }
    }
}

}  // namespace
}  // namespace octavo
