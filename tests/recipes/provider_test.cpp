// Every quantised tensor of a step has the scale provider that its recipe names.
#include <set>

#include <gtest/gtest.h>
#include "graph/provider.h"
#include "recipes/graph_queries.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::tiny_options;

struct Graphs {
    explicit Graphs(const StepOptions& o) : micro(micro_graph(o, false)) {
        update = update_graph(o, micro);
        for (const Graph* g : {&micro, &update}) note_stores(*g, stored);
    }
    std::set<std::string_view> operands(MatmulKind kind, std::size_t i) const {
        std::set<std::string_view> found;
        for (const Node* n : test::products(micro, kind)) {
            found.insert(scale_provider(micro, n->in[i], stored));
        }
        return found;
    }
    Graph micro, update;
    StoredProviders stored;
};

using Names = std::set<std::string_view>;

TEST(ScaleProviders, AreThoseOfFp8Lm) {
    const Graphs g(tiny_options(Family::llama, "fp8-lm"));
    EXPECT_EQ(g.operands(MatmulKind::fprop, 0), Names{"delayed"});
    EXPECT_EQ(g.operands(MatmulKind::fprop, 1), Names{"recorded"});
    EXPECT_EQ(g.operands(MatmulKind::dgrad, 0), Names{"delayed"});
}

TEST(ScaleProviders, OfStatesInFewBits) {
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.recipe.states = fp8_lm_states("O2");
    o.recipe.cache_weights = false;
    const Graphs g(o);
    EXPECT_EQ(g.operands(MatmulKind::fprop, 1), Names{"recorded"});
    Names loaded, stored;
    for (const Node& n : g.update.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        const bool state = std::holds_alternative<Store>(n.op);
        if (load) loaded.insert(scale_provider(g.update, n.out[0], g.stored));
        if (state) stored.insert(scale_provider(g.update, n.in[0], g.stored));
    }
    EXPECT_EQ(loaded, (Names{"", "recorded"}));
    EXPECT_EQ(stored, (Names{"", "current"}));
}

TEST(ScaleProviders, AreThoseOfMoss) {
    StepOptions o = tiny_options(Family::llama, "moss");
    const Graphs g(o);
    EXPECT_EQ(g.operands(MatmulKind::fprop, 0), Names{"current"});
    EXPECT_EQ(g.operands(MatmulKind::fprop, 1), Names{"predicted"});
    EXPECT_EQ(g.operands(MatmulKind::wgrad, 0), Names{"current"});
    o.recipe.weight->provider = Provider::recorded;
    EXPECT_EQ(Graphs(o).operands(MatmulKind::fprop, 1), Names{"recorded"});
}

TEST(ScaleProviders, AreThoseOfBlockwise) {
    const Graphs g(tiny_options(Family::llama, "blockwise"));
    EXPECT_EQ(g.operands(MatmulKind::fprop, 0), Names{"current"});
    EXPECT_EQ(g.operands(MatmulKind::fprop, 1), Names{"recorded"});
    EXPECT_EQ(g.operands(MatmulKind::dgrad, 1), Names{"recorded"});  // turned around
}

TEST(ScaleProviders, AreThoseOfSmoothSwiGlu) {
    StepOptions o = tiny_options(Family::llama, "smooth-swiglu");
    for (const Axis axis : {Axis::row, Axis::column}) {
        o.recipe.smooth->axis = axis;
        const Graphs g(o);
        for (const Node* n : test::products(g.micro, MatmulKind::fprop)) {
            const bool down = n->label.ends_with("down_proj");
            const bool folded = down && axis == Axis::column;
            EXPECT_EQ(scale_provider(g.micro, n->in[0], g.stored), down ? "current" : "delayed");
            EXPECT_EQ(scale_provider(g.micro, n->in[1], g.stored), folded ? "current" : "recorded");
        }
    }
}

TEST(ScaleProviders, AreThoseOfScalify) {
    StepOptions o = tiny_options(Family::llama, "scalify");
    set_scalify_run(o.recipe, 4);
    const Graphs g(o);
    for (const MatmulKind kind : {MatmulKind::fprop, MatmulKind::dgrad, MatmulKind::wgrad}) {
        for (const std::size_t i : {0, 1}) {
            EXPECT_EQ(g.operands(kind, i), Names{"propagated"});
        }
    }
    const std::string weight = "model.layers.0.mlp.up_proj.weight";
    int found = 0;
    for (const Node& n : g.update.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        if (!load || !load->name.ends_with(weight)) continue;
        const bool moment = load->name.starts_with("adam.");
        if (g.update.type(n.out[0]).dtype == Dtype::f32) continue;
        ++found;
        EXPECT_EQ(scale_provider(g.update, n.out[0], g.stored), moment ? "predicted" : "propagated")
            << load->name;
    }
    EXPECT_EQ(found, 4);  // master, gradient, moments
}

}  // namespace
}  // namespace octavo
