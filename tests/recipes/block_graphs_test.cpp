// The graphs of recipes with scales per block and group: moss and blockwise.
#include <algorithm>

#include "base/convert.h"
#include "base/scale.h"
#include "io/scratch.h"
#include "ops/block_quantise_oracle.h"
#include "recipes/graph_queries.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::names_of;
using test::nodes_of;
using test::products;
using test::Session;
using test::tiny_options;

struct BlockCase {
    const char* recipe;
    Family family;
    std::size_t linears;  // of a layer
    std::size_t tensors;  // of a layer that are quantised: activations and output gradients
    bool conv1d;
};

class BlockRecipe : public testing::TestWithParam<BlockCase> {
  protected:
    StepOptions options() const { return tiny_options(GetParam().family, GetParam().recipe); }
    std::size_t weights() const { return 2 * GetParam().linears; }
    bool predicts() const { return predicts_scales(options().recipe); }
};

TEST_P(BlockRecipe, ProductsHaveTheOperandsOfTheTable) {
    for (const int form : {0, 1, 2, 3}) {
        StepOptions o = options();
        o.fuse = form & 1;
        o.target.k_major_fp8 = form & 2;
        o.recipe.output_grad->dtype = Dtype::e5m2;  // tells gradients from activations
        const Scaling rows = scaling_of(*o.recipe.activation),
                      weight = scaling_of(*o.recipe.weight);
        EXPECT_EQ(scaling_of(*o.recipe.output_grad), rows);
        const Graph g = micro_graph(o, false);
        verify(g);
        const auto expect = [&](MatmulKind kind, Dtype a, const Scaling& a_scaling, Dtype b,
                                const Scaling& b_scaling, Dtype out) {
            const auto nodes = products(g, kind);
            EXPECT_EQ(nodes.size(), weights());
            for (const Node* n : nodes) {
                const Type &x = g.type(n->in[0]), &y = g.type(n->in[1]);
                EXPECT_EQ(x.dtype, a) << n->label;
                EXPECT_EQ(x.scaling, a_scaling) << n->label;
                EXPECT_EQ(y.dtype, b) << n->label;
                EXPECT_EQ(y.scaling, b_scaling) << n->label;
                EXPECT_EQ(g.type(n->out[0]).dtype, out) << n->label;
                const auto& op = std::get<Matmul>(n->op);
                EXPECT_FALSE(op.trans_a) << n->label;  // contiguous along K
                const bool along_k = kind == MatmulKind::wgrad || o.target.k_major_fp8;
                EXPECT_TRUE(op.trans_b || !along_k) << n->label;
            }
        };
        const bool swapped = GetParam().conv1d;  // dW = X^T dY there
        const Dtype x = Dtype::e4m3, dy = Dtype::e5m2;
        expect(MatmulKind::fprop, x, rows, Dtype::e4m3, weight, Dtype::bf16);
        expect(MatmulKind::dgrad, dy, rows, Dtype::e4m3, weight, Dtype::bf16);
        expect(MatmulKind::wgrad, swapped ? x : dy, rows, swapped ? dy : x, rows, Dtype::f32);
    }
}

TEST_P(BlockRecipe, ATensorAndItsTransposeAreQuantisedAtOnce) {
    const Graph g = micro_graph(options(), false);
    const auto casts = nodes_of<BlockQuantise>(g);
    EXPECT_EQ(casts.size(), 2 * GetParam().tensors);
    std::set<std::int32_t> sources;
    for (const Node* n : casts) {
        const Recipe recipe = options().recipe;
        const Format& format =
            n->phase == Phase::forward ? *recipe.activation : *recipe.output_grad;
        EXPECT_EQ(std::get<BlockQuantise>(n->op), (BlockQuantise{.to = format.dtype,
                                                                 .scaling = scaling_of(format),
                                                                 .rounding = ScaleRounding::exact,
                                                                 .floor = format.floor,
                                                                 .copies = Copies::both}));
        sources.insert(n->in[0].id);
        const Type &x = g.type(n->in[0]), &rows = g.type(n->out[0]), &columns = g.type(n->out[1]);
        EXPECT_EQ(x.dtype, Dtype::bf16);
        EXPECT_EQ(rows.shape, x.shape);
        EXPECT_EQ(columns.shape, (Shape{x.shape.last(), x.shape.rows()}));
    }
    EXPECT_EQ(sources.size(), casts.size());
    EXPECT_TRUE(nodes_of<Transpose>(g).empty());
}

TEST_P(BlockRecipe, BackwardReadsTheCodesThatForwardMade) {
    const Graph g = micro_graph(options(), false);
    const auto forward = products(g, MatmulKind::fprop);
    for (const Node* wgrad : products(g, MatmulKind::wgrad)) {
        const Node& cast = g.node(g.producer(wgrad->in[GetParam().conv1d ? 0 : 1]));
        const auto same =
            std::ranges::find(forward, wgrad->label, [](const Node* n) { return n->label; });
        ASSERT_NE(same, forward.end());
        EXPECT_EQ((*same)->in[0], cast.out[0]) << wgrad->label;
        EXPECT_EQ(cast.phase, Phase::forward);
        // Of the 16-bit values before the cast backward wants nothing, but for attention's result.
        for (const Node& n : g.nodes()) {
            if (n.phase != Phase::backward || std::holds_alternative<AttentionGrad>(n.op)) continue;
            EXPECT_EQ(std::ranges::count(n.in, cast.in[0]), 0) << op_name(n.op) << " " << n.label;
        }
    }
}

TEST_P(BlockRecipe, EvaluationQuantisesRowsAlone) {
    const Graph g = eval_graph(options());
    EXPECT_TRUE(names_of(g, /*stores=*/true, "").empty());
    EXPECT_EQ(nodes_of<BlockQuantise>(g).size(), 2u * 4);
    for (const Node* n : nodes_of<BlockQuantise>(g)) {
        EXPECT_EQ(std::get<BlockQuantise>(n->op).copies, Copies::rows);
    }
}

TEST_P(BlockRecipe, HeadAttentionNormsAndEmbeddingStayWide) {
    const Graph g = micro_graph(options(), false);
    for (const Node& n : g.nodes()) {
        const bool wide =
            std::holds_alternative<HeadLoss>(n.op) || std::holds_alternative<Attention>(n.op) ||
            std::holds_alternative<AttentionGrad>(n.op) ||
            std::holds_alternative<Embedding>(n.op) || std::holds_alternative<RmsNorm>(n.op) ||
            std::holds_alternative<LayerNorm>(n.op);
        if (!wide) continue;
        for (const Value v : n.in) EXPECT_EQ(g.type(v).scaling, kUnscaled) << op_name(n.op);
    }
    EXPECT_EQ(names_of(g, false, "work.e4m3/").size(), weights());
    for (const std::string& name : names_of(g, false, "work.bf16/")) {
        EXPECT_TRUE(name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight") ||
                    name.ends_with("wte.weight") || name.ends_with("wpe.weight"))
            << name;
    }
}

// Tensor cores read along K: of the codes only weights are turned, exactly.
TEST_P(BlockRecipe, OnlyWeightsAreTransposedAsCodes) {
    StepOptions o = options();
    o.target.k_major_fp8 = true;
    const Graph g = micro_graph(o, false);
    std::size_t codes = 0;
    for (const Node* n : nodes_of<Transpose>(g)) {
        if (!is_fp8(g.type(n->in[0]).dtype)) continue;
        ++codes;
        EXPECT_TRUE(std::holds_alternative<Load>(g.node(g.producer(n->in[0])).op)) << n->label;
        EXPECT_EQ(g.type(n->out[0]).scaling, scaling_of(*o.recipe.weight));
    }
    EXPECT_EQ(codes, weights());
}

TEST_P(BlockRecipe, StateIsOnePredictionPerWeightOrNothing) {
    const StepOptions o = options();
    const Graph micro = micro_graph(o, false);
    EXPECT_TRUE(names_of(micro, false, "scale.").empty());
    EXPECT_TRUE(names_of(micro, true, "scale.").empty());
    EXPECT_TRUE(delayed_states(micro).empty());
    std::set<std::string> bounds;
    for (const std::string& work : names_of(micro, false, "work.e4m3/")) {
        if (predicts()) bounds.insert("scale.bound/" + work.substr(work.find('/') + 1));
    }
    const Graph update = update_graph(o, micro), measured = update_graph(o, micro, true),
                refresh = refresh_graph(o.recipe, micro);
    EXPECT_EQ(names_of(update, false, "scale."), bounds);
    EXPECT_TRUE(names_of(measured, false, "scale.").empty());
    EXPECT_TRUE(names_of(refresh, false, "scale.").empty());
    for (const Graph* g : {&update, &measured, &refresh}) {
        EXPECT_EQ(names_of(*g, true, "scale."), bounds);
    }
    for (const std::string& name : bounds) EXPECT_TRUE(is_saved(name));
}

TEST_P(BlockRecipe, WeightsAreQuantisedWhenTheyAreWritten) {
    const StepOptions o = options();
    const Graph micro = micro_graph(o, false);
    const auto amaxes = [](const Graph& g) {
        std::size_t count = nodes_of<Amax>(g).size();
        for (const Node* n : nodes_of<AdamW>(g)) count += std::get<AdamW>(n->op).amax;
        return count;
    };
    const auto copies = [](const Graph& g) {
        std::size_t count = 0;
        for (const Node* n : nodes_of<AdamW>(g)) {
            const auto& copy = std::get<AdamW>(n->op).copy;
            count += copy && copy->scaled;
        }
        return count;
    };
    for (const bool measure : {false, true}) {
        const Graph g = update_graph(o, micro, measure);
        verify(g);
        // Under predicted scales, AdamW writes the codes itself.
        EXPECT_EQ(nodes_of<Quantise>(g).size(), predicts() && measure ? weights() : 0);
        EXPECT_EQ(copies(g), predicts() && !measure ? weights() : 0);
        EXPECT_EQ(nodes_of<PredictAmax>(g).size(), predicts() && !measure ? weights() : 0);
        EXPECT_EQ(amaxes(g), predicts() && measure ? weights() : 0);
        const auto blocks = nodes_of<BlockQuantise>(g);
        EXPECT_EQ(blocks.size(), predicts() ? 0 : weights());
        for (const Node* n : blocks) {
            const auto& op = std::get<BlockQuantise>(n->op);
            EXPECT_EQ(op.scaling, Scaling{Granularity::block_128x128});
            EXPECT_EQ(op.floor, 1e-10f);
            EXPECT_EQ(op.copies, Copies::rows);
            EXPECT_EQ(g.type(n->in[0]).dtype, Dtype::bf16);
        }
    }
    const Graph refresh = refresh_graph(o.recipe, micro);
    EXPECT_EQ(nodes_of<Quantise>(refresh).size(), predicts() ? weights() : 0);
    EXPECT_EQ(nodes_of<BlockQuantise>(refresh).size(), predicts() ? 0 : weights());
}

// Tensor cores take sixteen codes at a time.
TEST_P(BlockRecipe, FeaturesAreMultiplesOfSixteen) {
    StepOptions o = options();
    o.architecture.intermediate_size = 104;
    const bool gpt2 = GetParam().family == Family::gpt2;
    const std::string want = fmt::format(
        "'{}': recipe {} needs features in multiples of 16, got a weight of {}\n"
        "  Change the model's sizes, or take a recipe with one scale per tensor.",
        gpt2 ? "transformer.h.0.mlp.c_fc" : "model.layers.0.mlp.gate_proj", GetParam().recipe,
        gpt2 ? "[32, 104]" : "[104, 32]");
    EXPECT_EQ(error_of([&] { micro_graph(o, false); }), want);
    EXPECT_EQ(error_of([&] { eval_graph(o); }), want);
    if (predicts()) {
        o.recipe.cache_weights = false;
        EXPECT_EQ(error_of([&] { micro_graph(o, false); }), want);
    }
    o.recipe = recipe_named("fp8-lm");
    verify(micro_graph(o, false));
    // Tokens may be any number.
    o = options();
    o.batch = 1;
    o.seq = 13;
    verify(micro_graph(o, false));
}

INSTANTIATE_TEST_SUITE_P(Models, BlockRecipe,
                         testing::Values(BlockCase{"moss", Family::llama, 7, 4 + 7, false},
                                         BlockCase{"moss", Family::gpt2, 4, 4 + 4, true},
                                         BlockCase{"blockwise", Family::llama, 7, 4 + 7, false},
                                         BlockCase{"blockwise", Family::gpt2, 4, 4 + 4, true}),
                         [](const auto& test) {
                             return fmt::format("{}_{}", test.param.recipe,
                                                name(test.param.family));
                         });

const std::string kLinear = "model.layers.1.mlp.down_proj.weight";

float bound_of(const State& state) { return test::read_f32(state, scale_bound_name(kLinear))[0]; }

float measured(const State& state) {
    const std::vector<float> w = test::read_f32(state, kLinear);
    return amax(w.data(), Dtype::f32, std::ssize(w));
}

// The codes are the master under this scale.
void expect_work(const State& state, float scale) {
    const std::vector<float> w = test::read_f32(state, kLinear);
    const test::HostTensor work = test::read_tensor(state.tensor("work.e4m3/" + kLinear));
    ASSERT_EQ(work.scales.size(), 1u);
    EXPECT_EQ(work.scales[0], scale);
    std::vector<std::byte> codes(w.size());
    quantise(w.data(), Dtype::f32, 1 / scale, codes.data(), Dtype::e4m3, std::ssize(w));
    EXPECT_EQ(work.codes, codes);
}

TEST(PredictedScales, MoveWithTheLearningRateAndAreMeasuredAtTheInterval) {
    StepOptions o = tiny_options(Family::llama, "moss");
    o.recipe.prediction = {.bound = adam_bound(0.9, 0.95), .interval = 4};
    Session s(o);
    float want = measured(s.state());
    EXPECT_EQ(bound_of(s.state()), want);
    expect_work(s.state(), want / 448);
    for (int step = 1; step <= 9; ++step) {
        const float lr = 1e-3f * static_cast<float>(step);
        s.micro(test::random_batch(o, static_cast<std::uint64_t>(step)));
        s.program.update(lr, step);
        const float move = o.recipe.prediction.bound * lr;
        want = step % 4 == 0 ? measured(s.state()) : want + move;
        ASSERT_EQ(bound_of(s.state()), want) << "step " << step;
        EXPECT_LE(measured(s.state()), want);
        expect_work(s.state(), want / 448);
    }
    // Masters that come from outside are measured.
    std::vector<float> w(test::read_f32(s.state(), kLinear).size(), 0.125f);
    s.state().write(kLinear, w.data());
    s.program.refresh();
    EXPECT_EQ(bound_of(s.state()), 0.125f);
    expect_work(s.state(), 0.125f / 448);
}

TEST(PredictedScales, StayInASkippedStep) {
    Session s(tiny_options(Family::llama, "moss"));
    s.micro(test::random_batch(s.program.options(), 1));
    s.program.update(1e-3, 1);
    const float before = bound_of(s.state());
    std::vector<float> g = test::read_f32(s.state(), gradient_name("model.norm.weight"));
    g[0] = std::numeric_limits<float>::quiet_NaN();
    s.state().write(gradient_name("model.norm.weight"), g.data());
    EXPECT_FALSE(std::isfinite(s.program.update(1e-3, 2)));
    EXPECT_EQ(bound_of(s.state()), before);
    expect_work(s.state(), before / 448);
}

TEST(PredictedScales, GoWithTheScalesOfFp8Lm) {
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.recipe.weight->provider = Provider::predicted;
    o.recipe.prediction = {.bound = adam_bound(0.9, 0.95), .interval = 3};
    Session s(o);
    float want = measured(s.state());
    for (int step = 1; step <= 4; ++step) {
        s.micro(test::random_batch(o, 1));
        s.program.update(1e-2, step);
        want = step == 3 ? measured(s.state()) : want + o.recipe.prediction.bound * 1e-2f;
        ASSERT_EQ(bound_of(s.state()), want);
        expect_work(s.state(), next_scale(want, Dtype::e4m3, ScaleRounding::pow2, 0, {}).scale);
    }
    EXPECT_EQ(names_of(micro_graph(o, false), true, "scale.history/").size(), 2u * 11);
}

TEST(PredictedScales, CastMastersInEachPassOnRequest) {
    StepOptions o = tiny_options(Family::llama, "moss");
    o.recipe.cache_weights = false;
    const Graph g = micro_graph(o, false);
    verify(g);
    EXPECT_TRUE(names_of(g, false, "work.e4m3/").empty());
    EXPECT_EQ(names_of(g, false, "work.scale/").size(), 14u);
    EXPECT_EQ(nodes_of<Quantise>(g).size(), 2u * 14);
    Session cached(tiny_options(Family::llama, "moss")), cast(o);
    for (int step = 1; step <= 3; ++step) {
        const auto batch = test::random_batch(o, static_cast<std::uint64_t>(step));
        EXPECT_EQ(cached.micro(batch), cast.micro(batch));
        EXPECT_EQ(cached.program.update(1e-3, step), cast.program.update(1e-3, step));
    }
    EXPECT_EQ(bound_of(cached.state()), bound_of(cast.state()));
}

// Trainer and rollout quantise the same bits: those of the 16-bit copy, not of the f32 master.
TEST(BlockwiseWeights, AreThoseOfTheBf16Copy) {
    for (const Dtype master : {Dtype::f32, Dtype::bf16}) {
        StepOptions o = tiny_options(Family::llama, "blockwise");
        o.recipe.states.master = master;
        o.architecture.intermediate_size = 272;  // three blocks, the last one cut
        Session s(o);
        s.micro(test::random_batch(o, 1));
        s.program.update(1e-3, 1);
        const test::HostTensor w = test::read_tensor(s.state().tensor(kLinear)),
                               bf16 = test::tensor(Dtype::bf16, w.type.shape, w.values),
                               work = test::read_tensor(s.state().tensor("work.e4m3/" + kLinear));
        const BlockQuantise op{.scaling = {Granularity::block_128x128}, .floor = 1e-10f};
        test::expect_identical(work, test::block_quantise_oracle(op, bf16));
        if (master == Dtype::f32) {
            EXPECT_NE(work.codes, test::block_quantise_oracle(op, w).codes);
        }
    }
}

}  // namespace
}  // namespace octavo
