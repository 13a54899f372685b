#include <algorithm>
#include <set>

#include "io/scratch.h"
#include "passes/simplify.h"
#include "recipes/graph_queries.h"
#include "recipes/recipe.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::is_head;
using test::names_of;
using test::products;
using test::tiny_options;

TEST(Recipe, AreKnownByName) {
    EXPECT_EQ(recipe_names(), (std::vector<std::string>{"fp32", "bf16", "fp8-lm", "moss",
                                                        "blockwise", "smooth-swiglu", "scalify"}));
    for (const std::string& name : recipe_names()) EXPECT_EQ(recipe_named(name).name, name);
    EXPECT_EQ(error_of([] { recipe_named("fp4"); }),
              "there is no recipe 'fp4'\n  Recipes: fp32, bf16, fp8-lm, moss, blockwise, "
              "smooth-swiglu, scalify.");
}

struct Fp8Case {
    Family family;
    std::size_t linears;  // of a layer
    bool conv1d;
};

class Fp8Lm : public testing::TestWithParam<Fp8Case> {
  protected:
    Graph micro() const { return micro_graph(tiny_options(GetParam().family, "fp8-lm"), false); }
};

TEST_P(Fp8Lm, ProductsHaveTheOperandsOfTheTable) {
    const Graph g = micro();
    const auto expect = [&](MatmulKind kind, Dtype a, Dtype b, Dtype out) {
        const auto nodes = products(g, kind);
        EXPECT_EQ(nodes.size(), 2 * GetParam().linears);
        for (const Node* n : nodes) {
            const Type &x = g.type(n->in[0]), &y = g.type(n->in[1]);
            EXPECT_EQ(x.dtype, a) << n->label;
            EXPECT_EQ(y.dtype, b) << n->label;
            EXPECT_EQ(x.scaling, kPerTensor);
            EXPECT_EQ(y.scaling, kPerTensor);
            EXPECT_EQ(g.type(n->out[0]).dtype, out) << n->label;
        }
    };
    const bool swapped = GetParam().conv1d;  // dW = X^T dY there
    expect(MatmulKind::fprop, Dtype::e4m3, Dtype::e4m3, Dtype::bf16);
    expect(MatmulKind::dgrad, Dtype::e5m2, Dtype::e4m3, Dtype::bf16);
    expect(MatmulKind::wgrad, swapped ? Dtype::e4m3 : Dtype::e5m2,
           swapped ? Dtype::e5m2 : Dtype::e4m3, Dtype::f32);
}

TEST_P(Fp8Lm, HeadAttentionAndEmbeddingStayInBf16) {
    const Graph g = micro();
    int heads = 0;
    for (const Node& n : g.nodes()) {
        heads += std::holds_alternative<HeadLoss>(n.op);
        const bool wide = std::holds_alternative<HeadLoss>(n.op) ||
                          std::holds_alternative<Attention>(n.op) ||
                          std::holds_alternative<Embedding>(n.op);
        if (!wide) continue;
        EXPECT_EQ(g.type(n.in[0]).dtype, Dtype::bf16) << op_name(n.op);
    }
    EXPECT_EQ(heads, 1);
}

TEST_P(Fp8Lm, BackwardReadsTheCodesThatForwardMade) {
    const Graph g = micro();
    const auto forward = products(g, MatmulKind::fprop);
    for (const Node* wgrad : products(g, MatmulKind::wgrad)) {
        const Value x = wgrad->in[GetParam().conv1d ? 0 : 1];
        const auto same =
            std::ranges::find(forward, wgrad->label, [](const Node* n) { return n->label; });
        ASSERT_NE(same, forward.end());
        EXPECT_EQ((*same)->in[0], x) << wgrad->label;
        // Of the 16-bit values before the cast backward wants nothing, but for attention's result.
        const Value wide = g.node(g.producer(x)).in[0];
        for (const Node& n : g.nodes()) {
            if (n.phase != Phase::backward || std::holds_alternative<AttentionGrad>(n.op)) continue;
            EXPECT_EQ(std::ranges::count(n.in, wide), 0) << op_name(n.op) << " " << n.label;
        }
    }
}

TEST_P(Fp8Lm, EveryTensorIsQuantisedOnce) {
    const Graph g = micro();
    std::set<std::int32_t> sources;
    std::set<std::string> slots;
    std::size_t casts = 0;
    for (const Node& n : g.nodes()) {
        if (!std::holds_alternative<DelayedQuantise>(n.op)) continue;
        ++casts;
        sources.insert(n.in[0].id);
        slots.insert(std::get<Load>(g.node(g.producer(n.in[1])).op).name);
    }
    EXPECT_EQ(sources.size(), casts);
    EXPECT_EQ(slots.size(), casts);
    EXPECT_EQ(delayed_states(g).size(), casts);
    EXPECT_EQ(names_of(g, /*stores=*/true, "scale.history/").size(), casts);
}

TEST_P(Fp8Lm, EvaluationLeavesStateAlone) {
    const StepOptions o = tiny_options(GetParam().family, "fp8-lm");
    for (const Graph& g : {eval_graph(o), inspection_graph(o, true)}) {
        EXPECT_TRUE(names_of(g, /*stores=*/true, "").empty());
        EXPECT_FALSE(delayed_states(g).empty());
    }
}

TEST_P(Fp8Lm, FusionOffComputesWithTheSameFormats) {
    StepOptions o = tiny_options(GetParam().family, "fp8-lm");
    o.fuse = false;
    const Graph g = micro_graph(o, false);
    EXPECT_EQ(products(g, MatmulKind::fprop).size(), 2 * GetParam().linears);
    EXPECT_EQ(delayed_states(g).size(), delayed_states(micro()).size());
}

INSTANTIATE_TEST_SUITE_P(Models, Fp8Lm,
                         testing::Values(Fp8Case{Family::llama, 7, false},
                                         Fp8Case{Family::gpt2, 4, true}),
                         [](const auto& test) { return std::string(name(test.param.family)); });

TEST(Fp8LmSlots, AreNamedAfterTheFirstReader) {
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.architecture.layers = 1;
    std::set<std::string> slots;
    for (const DelayedState& s : delayed_states(micro_graph(o, false))) {
        slots.insert(s.slot);
        EXPECT_EQ(s.rule.to, s.slot.ends_with(".x") ? Dtype::e4m3 : Dtype::e5m2);
    }
    const std::string l = "model.layers.0.";
    EXPECT_EQ(slots,
              (std::set<std::string>{
                  l + "self_attn.q_proj.x", l + "self_attn.o_proj.x", l + "mlp.gate_proj.x",
                  l + "mlp.down_proj.x", l + "self_attn.q_proj.dy", l + "self_attn.k_proj.dy",
                  l + "self_attn.v_proj.dy", l + "self_attn.o_proj.dy", l + "mlp.gate_proj.dy",
                  l + "mlp.up_proj.dy", l + "mlp.down_proj.dy"}));
}

TEST(Fp8LmWeights, AreCodesUnderARecordedScale) {
    const Graph g = micro_graph(tiny_options(Family::llama, "fp8-lm"), false);
    EXPECT_EQ(
        names_of(g, false, "work.bf16/"),
        (std::set<std::string>{"work.bf16/model.embed_tokens.weight", "work.bf16/lm_head.weight"}));
    EXPECT_EQ(names_of(g, false, "work.e4m3/").size(), 14u);
    for (const WorkingWeight& w : working_weights(recipe_named("fp8-lm"), g)) {
        EXPECT_EQ(w.state.substr(w.state.find('/') + 1), w.weight);
        EXPECT_EQ(w.type.scaling, w.type.dtype == Dtype::e4m3 ? kPerTensor : kUnscaled);
    }
    // Masters of matrices are read by the optimizer alone; norms as they are.
    EXPECT_EQ(names_of(g, false, "model.layers.0."),
              (std::set<std::string>{"model.layers.0.input_layernorm.weight",
                                     "model.layers.0.post_attention_layernorm.weight"}));
}

TEST(Fp8LmHead, IsQuantisedOnRequest) {
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.recipe.quantise_head = true;
    Graph g = micro_graph(o, false);
    int heads = 0;
    for (const Node& n : g.nodes()) {
        EXPECT_FALSE(std::holds_alternative<CrossEntropyGrad>(n.op));
        if (const auto* store = std::get_if<Store>(&n.op)) {
            if (store->name != scale_history_name("lm_head.dy")) continue;
            EXPECT_TRUE(std::holds_alternative<HeadLoss>(g.node(g.producer(n.in[0])).op));
        }
        const auto* head = std::get_if<HeadLoss>(&n.op);
        if (!head) continue;
        ++heads;
        ASSERT_TRUE(head->quantise);
        EXPECT_EQ(head->quantise->to, Dtype::e5m2);
        EXPECT_EQ(g.type(n.in[0]).dtype, Dtype::e4m3);
        EXPECT_EQ(g.type(n.in[1]).dtype, Dtype::e4m3);
    }
    EXPECT_EQ(heads, 1);
    const auto slots = [](const Graph& graph) {
        std::set<std::string> names;
        for (const DelayedState& s : delayed_states(graph)) names.insert(s.slot);
        return names;
    };
    EXPECT_TRUE(slots(g).contains("lm_head.dy"));
    EXPECT_TRUE(slots(g).contains("lm_head.x"));
    const auto fused_slots = slots(g);
    o.fuse = false;
    g = micro_graph(o, false);
    EXPECT_EQ(slots(g), fused_slots);
    int products = 0;
    for (const Node& n : g.nodes()) {
        const auto* m = std::get_if<Matmul>(&n.op);
        if (!m || !is_head(n)) continue;
        ++products;
        EXPECT_EQ(g.type(n.in[1]).dtype, Dtype::e4m3);
    }
    EXPECT_EQ(products, 3);
    EXPECT_TRUE(names_of(g, false, "work.e4m3/").contains("work.e4m3/lm_head.weight"));
}

// Without cached codes, forward and backward each cast the master; a fused head casts once.
TEST(Fp8LmWeights, AreCastInEachPassOnRequest) {
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.recipe.cache_weights = false;
    o.recipe.quantise_head = true;
    for (const Dtype master : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
        o.recipe.states.master = master;
        const Graph g = micro_graph(o, false);
        verify(g);
        EXPECT_TRUE(names_of(g, false, "work.e4m3/").empty());
        EXPECT_EQ(names_of(g, false, "work.scale/").size(), 15u);
        std::map<std::string, std::vector<Phase>> casts;
        int heads = 0;
        for (const Node& n : g.nodes()) {
            heads += std::holds_alternative<HeadLoss>(n.op);
            if (!std::holds_alternative<Quantise>(n.op)) continue;
            const Node& w = g.node(g.producer(n.in[0]));
            ASSERT_TRUE(std::holds_alternative<Load>(w.op));
            casts[std::get<Load>(w.op).name].push_back(n.phase);
        }
        EXPECT_EQ(heads, 1);
        EXPECT_EQ(casts.size(), 15u);
        for (const auto& [name, phases] : casts) {
            const auto want = name == "lm_head.weight"
                                  ? std::vector{Phase::forward}
                                  : std::vector{Phase::forward, Phase::backward};
            EXPECT_EQ(phases, want) << name;
        }
        for (const WorkingWeight& w : working_weights(o.recipe, g)) {
            if (!w.state.starts_with("work.scale/")) continue;
            EXPECT_EQ(w.type, (Type{Dtype::f32, {1}}));
            const bool head = w.weight == "lm_head.weight";
            const Dtype want = head && master == Dtype::f16 ? Dtype::f32 : master;
            EXPECT_EQ(w.master.dtype, want) << w.weight;
        }
    }
}

TEST(Bf16, ActivationsAreBf16AndSumsF32) {
    const Graph g = micro_graph(tiny_options(Family::qwen2, "bf16"), false);
    for (const Node& n : g.nodes()) {
        const auto* m = std::get_if<Matmul>(&n.op);
        if (m) {
            EXPECT_EQ(g.type(n.in[0]).dtype, Dtype::bf16);
            EXPECT_EQ(g.type(n.in[1]).dtype, Dtype::bf16);
            EXPECT_EQ(m->out, m->kind == MatmulKind::wgrad ? Dtype::f32 : Dtype::bf16);
        }
        if (std::holds_alternative<RmsNorm>(n.op)) {
            EXPECT_EQ(g.type(n.in[0]).dtype, Dtype::bf16);
            EXPECT_EQ(g.type(n.in[1]).dtype, Dtype::f32);
        }
        if (const auto* store = std::get_if<Store>(&n.op)) {
            EXPECT_EQ(g.type(n.in[0]).dtype, Dtype::f32) << store->name;
        }
    }
}

TEST(Bf16, CachesAreBf16) {
    Graph g;
    Builder b(g);
    const Type type{Dtype::f32, {4, 2, 8}};
    const Value fresh =
        b.reshape(b.linear(b.one(Embedding{}, {b.load("table", {Dtype::f32, {9, 16}}),
                                               b.input("ids", {Dtype::i32, {1, 1}})}),
                           b.load("w", {Dtype::f32, {16, 16}})),
                  {1, 1, 2, 8});
    const Values pools =
        b.emit(KvWrite{}, {b.load("kv/layers.0.k", type), b.load("kv/layers.0.v", type), fresh,
                           fresh, b.input("slots", {Dtype::i32, {1, 1}})});
    b.store("kv/layers.0.k", pools[0]);
    b.store("kv/layers.0.v", pools[1]);
    b.output("k", pools[0]);
    b.output("v", pools[1]);
    const Graph applied = apply(recipe_named("bf16"), g, false);
    verify(applied);
    for (const Output& output : applied.outputs()) {
        EXPECT_EQ(applied.type(output.value).dtype, Dtype::bf16) << output.name;
    }
}

// Those in codes stay so, and their scales in f32.
TEST(Bf16, CodedCachesKeepTheirDtypes) {
    Graph g;
    Builder b(g);
    const Type type{Dtype::e4m3, {4, 2, 8}}, scale{Dtype::f32, {1}};
    const Value fresh =
        b.reshape(b.linear(b.one(Embedding{}, {b.load("table", {Dtype::f32, {9, 16}}),
                                               b.input("ids", {Dtype::i32, {1, 1}})}),
                           b.load("w", {Dtype::f32, {16, 16}})),
                  {1, 1, 2, 8});
    const Values pools = b.emit(
        KvWrite{}, {b.load("kv/layers.0.k", type), b.load("kv/layers.0.v", type), fresh, fresh,
                    b.input("slots", {Dtype::i32, {1, 1}}), b.load("kv.scale/layers.0.k", scale),
                    b.load("kv.scale/layers.0.v", scale)});
    b.output("k", pools[0]);
    b.output("v", pools[1]);
    const Graph applied = apply(recipe_named("bf16"), g, false);
    verify(applied);
    for (const Output& output : applied.outputs()) {
        EXPECT_EQ(applied.type(output.value), type) << output.name;
    }
    for (const Node& n : applied.nodes()) {
        if (std::holds_alternative<KvWrite>(n.op)) {
            EXPECT_EQ(applied.type(n.in[2]).dtype, Dtype::bf16);
            EXPECT_EQ(applied.type(n.in[5]), scale);
        }
    }
}

TEST(Fp32, ChangesNothing) {
    Graph g;
    Builder b(g);
    const Architecture arch = test::tiny(Family::llama);
    ModelBuilder m(b, arch);
    const Type tokens{Dtype::i32, {1, 8}};
    const Value logits = head(m, backbone(m, b.input("ids", tokens)));
    b.output("loss", language_model_loss(m, logits, b.input("targets", tokens),
                                         b.input("weight", {Dtype::f32, {1}})));
    EXPECT_EQ(to_text(apply(recipe_named("fp32"), g, true)), to_text(merge_equal(g)));
}

}  // namespace
}  // namespace octavo
