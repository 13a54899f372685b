// Smooth-SwiGLU (arXiv 2409.12517) in the graphs of a step.
#include "ops/op_test.h"
#include "recipes/graph_queries.h"
#include "recipes/scales.h"
#include "runtime/run_graph.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::names_of;
using test::nodes_of;
using test::products;
using test::Session;
using test::tiny_options;

constexpr Axis kAxes[] = {Axis::row, Axis::column};

StepOptions smooth_options(std::string_view recipe, Axis axis) {
    StepOptions o = tiny_options(Family::llama, recipe);
    if (!o.recipe.smooth) {
        o.recipe.smooth.emplace();
        if (o.recipe.activation) o.recipe.smooth->hidden = *o.recipe.activation;
        o.recipe.smooth->hidden.provider = Provider::current;
    }
    o.recipe.smooth->axis = axis;
    return o;
}

bool is_down(const Node* n) { return n->label.ends_with("down_proj"); }

std::vector<const Node*> down_products(const Graph& g, MatmulKind kind) {
    std::vector<const Node*> found = products(g, kind);
    std::erase_if(found, [](const Node* n) { return !is_down(n); });
    return found;
}

template <class T>
const Node* producer_as(const Graph& g, Value v) {
    const Node& n = g.node(g.producer(v));
    return std::holds_alternative<T>(n.op) ? &n : nullptr;
}

// Logits, loss and all gradients of one batch.
std::map<std::string, std::vector<double>> inspected(const StepOptions& o) {
    const auto backend = test::make_test_backend();
    Program program(*backend);
    const Graph g = inspection_graph(o, /*gradients=*/true);
    program.add("inspect", g);
    program.allocate(test::kNoLimit);
    for (const Parameter& p : parameters(o.architecture)) {
        std::vector<float> w = initial_values(p, 1);
        // Large enough for gates that open and close.
        if (p.init == Init::normal) {
            for (float& x : w) x *= 15;
        }
        write_values(program.state(), p.name, w);
    }
    const test::TokenBatch batch = test::random_batch(o, 1);
    const float weight = 1.0f / static_cast<float>(batch.ids.size());
    program.write_input("inspect", "ids", batch.ids.data());
    program.write_input("inspect", "targets", batch.targets.data());
    program.write_input("inspect", "weight", &weight);
    program.run("inspect");
    std::map<std::string, std::vector<double>> values;
    for (const Output& output : g.outputs()) {
        std::vector<float> x(static_cast<std::size_t>(g.type(output.value).shape.elements()));
        program.read_output("inspect", output.name, x.data());
        values[output.name].assign(x.begin(), x.end());
    }
    return values;
}

// The function stays what it was, and so do all gradients, though the factors count as constants.
TEST(SmoothSwiGlu, ChangesNothingBeforeItIsQuantised) {
    const auto plain = inspected(tiny_options(Family::llama, "fp32"));
    ASSERT_EQ(plain.size(), 2u + parameters(test::tiny(Family::llama)).size());
    for (const Axis axis : kAxes) {
        for (const auto rounding : {ScaleRounding::pow2, ScaleRounding::exact}) {
            StepOptions o = smooth_options("fp32", axis);
            o.recipe.smooth->rounding = rounding;
            for (const auto& [name, got] : inspected(o)) {
                const auto& want = plain.at(name);
                double largest = 0, error = 0;
                for (std::size_t i = 0; i < want.size(); ++i) {
                    largest = std::max(largest, std::abs(want[i]));
                    error = std::max(error, std::abs(got[i] - want[i]));
                }
                EXPECT_GT(largest, 0) << name;
                EXPECT_LT(error, 1e-5 * largest) << name;
            }
        }
    }
}

TEST(SmoothSwiGlu, TokensScaleTheResultAndItsGradient) {
    for (const bool fuse : {true, false}) {
        StepOptions o = smooth_options("smooth-swiglu", Axis::row);
        o.fuse = fuse;
        const Graph g = micro_graph(o, false);
        verify(g);
        EXPECT_TRUE(nodes_of<SwiGlu>(g).empty());
        EXPECT_EQ(nodes_of<SmoothSwiGlu>(g).size(), 2u);
        for (const Node* n : down_products(g, MatmulKind::fprop)) {
            const Node* cast = producer_as<Quantise>(g, n->in[0]);
            ASSERT_TRUE(cast);
            const Node* smooth = producer_as<SmoothSwiGlu>(g, cast->in[0]);
            ASSERT_TRUE(smooth);
            EXPECT_EQ(g.type(cast->out[0]).dtype, Dtype::e4m3);
            // The scale comes from this very tensor.
            const Node* scale = producer_as<ComputeScale>(g, cast->in[1]);
            ASSERT_TRUE(scale);
            const Node& amax = g.node(g.producer(scale->in[0]));
            EXPECT_EQ(std::holds_alternative<Amax>(amax.op), !fuse);
            EXPECT_EQ(amax.in[0], fuse ? smooth->in[0] : cast->in[0]);
            EXPECT_TRUE(producer_as<Load>(g, n->in[1]));
        }
        // Two of a layer: Y = s (h W) and s dY; and dh / s.
        int inverse = 0;
        for (const Node* n : nodes_of<ScaleAlong>(g)) {
            const auto& op = std::get<ScaleAlong>(n->op);
            EXPECT_EQ(op.axis, Axis::row);
            inverse += op.inverse;
        }
        EXPECT_EQ(nodes_of<ScaleAlong>(g).size(), 2u * 3);
        EXPECT_EQ(inverse, 2);
        // The gradient that both products read is quantised once, after it was scaled.
        for (const Node* n : down_products(g, MatmulKind::dgrad)) {
            for (const Node* w : down_products(g, MatmulKind::wgrad)) {
                EXPECT_EQ(w->in[0] == n->in[0], w->label == n->label);
            }
            const Node& cast = g.node(g.producer(n->in[0]));
            EXPECT_TRUE(producer_as<ScaleAlong>(g, cast.in[0])) << op_name(cast.op);
            EXPECT_EQ(g.type(n->in[0]).dtype, Dtype::e5m2);
        }
    }
}

TEST(SmoothSwiGlu, ChannelsScaleTheWeightAndItsGradient) {
    const StepOptions o = smooth_options("smooth-swiglu", Axis::column);
    const Graph g = micro_graph(o, false);
    verify(g);
    for (const Node* n : down_products(g, MatmulKind::fprop)) {
        const Node* cast = producer_as<Quantise>(g, n->in[1]);
        ASSERT_TRUE(cast);
        const Node* fold = producer_as<ScaleAlong>(g, cast->in[0]);
        ASSERT_TRUE(fold);
        EXPECT_EQ(std::get<ScaleAlong>(fold->op), ScaleAlong{Axis::column});
        const Node* load = producer_as<Load>(g, fold->in[0]);
        ASSERT_TRUE(load);
        EXPECT_TRUE(std::get<Load>(load->op).name.starts_with("work.bf16/"));
        EXPECT_EQ(g.type(cast->out[0]).dtype, Dtype::e4m3);
        // The codes serve the backward pass, too.
        for (const Node* d : down_products(g, MatmulKind::dgrad)) {
            EXPECT_EQ(d->in[1] == n->in[1], d->label == n->label);
        }
    }
    for (const Node* n : down_products(g, MatmulKind::wgrad)) {
        const bool scaled = std::ranges::any_of(nodes_of<ScaleAlong>(g), [&](const Node* s) {
            return s->in[0] == n->out[0] && std::get<ScaleAlong>(s->op) == ScaleAlong{Axis::column};
        });
        EXPECT_TRUE(scaled) << n->label;
    }
    EXPECT_FALSE(
        names_of(g, false, "work.e4m3/").contains("work.e4m3/model.layers.0.mlp.down_proj.weight"));
    // Its master and its copy are written like those of the rest.
    const Graph update = update_graph(o, g);
    verify(update);
    EXPECT_TRUE(names_of(update, true, "work.bf16/")
                    .contains("work.bf16/model.layers.0.mlp.down_proj.weight"));
}

StepOptions step_before_options(std::string_view recipe) {
    StepOptions o = smooth_options(recipe, Axis::column);
    o.recipe.smooth->step_before = true;
    return o;
}

// Factors of the step before: their weight is cast by the update, and read as it lies.
TEST(SmoothSwiGlu, ChannelsOfTheStepBeforeAreState) {
    const std::string weight = "model.layers.1.mlp.down_proj.weight";
    for (const char* recipe : {"smooth-swiglu", "blockwise", "moss"}) {
        SCOPED_TRACE(recipe);
        const StepOptions o = step_before_options(recipe);
        const Graph g = micro_graph(o, /*add_to_gradients=*/true);
        verify(g);
        for (const Node* n : down_products(g, MatmulKind::fprop)) {
            const Node* load = producer_as<Load>(g, n->in[1]);
            ASSERT_TRUE(load);
            EXPECT_EQ(std::get<Load>(load->op).name, "work.folded/" + n->label + ".weight");
        }
        EXPECT_FALSE(names_of(g, false, "work.bf16/").contains("work.bf16/" + weight));
        EXPECT_TRUE(names_of(g, true, "").contains("smooth.seen/" + weight));
        EXPECT_FALSE(names_of(g, true, "").contains("smooth.factor/" + weight));
        EXPECT_TRUE(names_of(eval_graph(o), true, "").empty());
        const Graph update = update_graph(o, g);
        verify(update);
        for (const char* state : {"work.folded/", "smooth.factor/", "smooth.seen/"}) {
            EXPECT_TRUE(names_of(update, true, "").contains(state + weight)) << state;
        }
    }
    EXPECT_TRUE(is_saved("smooth.factor/w"));
    EXPECT_FALSE(is_saved("smooth.seen/w"));
}

// The largest factor of a step's micro-batches becomes that of the next, and goes into the weight.
TEST(SmoothSwiGlu, ChannelsOfTheStepBeforeFollowTheMaxima) {
    const std::string weight = "model.layers.1.mlp.down_proj.weight";
    const StepOptions o = step_before_options("smooth-swiglu");
    Session s(o, /*accumulates=*/true);
    const auto factors = [&](const std::string& role) {
        return test::read_f32(s.state(), role + "/" + weight);
    };
    const std::vector<float> ones(96, 1.0f);
    EXPECT_EQ(factors("smooth.factor"), ones);
    s.micro(test::random_batch(o, 1));
    const std::vector<float> first = factors("smooth.seen");
    s.micro(test::random_batch(o, 2), /*first=*/false);
    const std::vector<float> both = factors("smooth.seen");
    for (std::size_t i = 0; i < both.size(); ++i) {
        EXPECT_GE(both[i], first[i]);
        int exponent = 0;
        EXPECT_EQ(std::frexp(both[i], &exponent), 0.5f);
    }
    EXPECT_NE(both, ones);
    EXPECT_EQ(factors("smooth.factor"), ones);
    s.program.update(1e-3, 1);
    EXPECT_EQ(factors("smooth.factor"), both);
    EXPECT_EQ(factors("smooth.seen"), std::vector<float>(96));

    const test::HostTensor master = test::read_tensor(s.state().tensor(weight));
    const test::HostTensor folded = test::read_tensor(s.state().tensor("work.folded/" + weight));
    double error = 0, size = 0;
    for (std::size_t i = 0; i < folded.values.size(); ++i) {
        const double want = master.values[i] * both[i % 96];
        error += std::pow(folded.values[i] - want, 2);
        size += want * want;
    }
    EXPECT_LT(std::sqrt(error / size), 0.04);
    // Made anew from masters they are the same.
    const auto codes = folded.codes;
    s.program.refresh();
    EXPECT_EQ(test::read_tensor(s.state().tensor("work.folded/" + weight)).codes, codes);
}

TEST(SmoothSwiGlu, ChannelsTakeAnyMaster) {
    for (const Dtype master : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
        for (const bool cached : {true, false}) {
            StepOptions o = smooth_options("fp8-lm", Axis::column);
            o.recipe.states.master = master;
            o.recipe.cache_weights = cached;
            Session s(o);
            const float first = s.micro(test::random_batch(o, 1));
            for (int step = 1; step <= 5; ++step) {
                s.program.update(1e-2, step);
                s.micro(test::random_batch(o, 1));
            }
            EXPECT_LT(s.program.loss(), first) << name(master);
        }
    }
}

// As for a GPU: what remains of the products with factors adds the residual stream, or the gradient
// of earlier micro-batches.
TEST(SmoothSwiGlu, FactorsJoinTheirReaders) {
    for (const Axis axis : kAxes) {
        StepOptions o = smooth_options("smooth-swiglu", axis);
        o.target.k_major_fp8 = o.target.fused_quantisers = true;
        const Graph g = micro_graph(o, /*add_to_gradients=*/true);
        verify(g);
        std::size_t sums = 0, weights = 0;
        for (const Node* n : nodes_of<ScaleAlong>(g)) {
            sums += n->in.size() == 3;
            weights += bool(producer_as<Load>(g, n->in[0]));
        }
        EXPECT_EQ(sums, 2u);
        EXPECT_EQ(weights, axis == Axis::row ? 0u : 2u);
        EXPECT_EQ(nodes_of<ScaleAlong>(g).size(), sums + weights);
        std::size_t gradients = 0, results = 0;
        for (const Node* n : nodes_of<DelayedQuantise>(g)) {
            const auto& op = std::get<DelayedQuantise>(n->op);
            gradients +=
                op.scaled == ScaleAlong{axis, true} && op.of == QuantiseSource::swiglu_grad;
            results += op.scaled == ScaleAlong{axis} && op.of == QuantiseSource::value;
        }
        EXPECT_EQ(gradients, 2u);
        EXPECT_EQ(results, axis == Axis::row ? 2u : 0u);
        // The quotient, and a weight that takes factors, leave in both copies.
        std::size_t quotients = 0;
        for (const Node* n : nodes_of<CurrentQuantise>(g)) {
            const auto& op = std::get<CurrentQuantise>(n->op);
            quotients += op.of == QuantiseSource::swiglu && op.scaled == ScaleAlong{axis, true};
            EXPECT_TRUE(op.transpose) << n->label;
        }
        EXPECT_EQ(quotients, 2u);
        EXPECT_EQ(nodes_of<CurrentQuantise>(g).size(), quotients + weights);
        EXPECT_EQ(nodes_of<SmoothSwiGlu>(g).size() + nodes_of<Quantise>(g).size(), 0u);
    }
}

TEST(SmoothSwiGlu, OnlyItsQuotientHasAScaleOfItsOwn) {
    const auto slots = [](const StepOptions& o) {
        std::set<std::string> names;
        for (const DelayedState& s : delayed_states(micro_graph(o, false))) names.insert(s.slot);
        return names;
    };
    StepOptions o = smooth_options("smooth-swiglu", Axis::row);
    std::set<std::string> want = slots(tiny_options(Family::llama, "fp8-lm"));
    o.recipe.smooth->hidden.provider = Provider::delayed;
    EXPECT_EQ(slots(o), want);
    o.recipe.smooth->hidden.provider = Provider::current;
    for (int layer : {0, 1}) want.erase(fmt::format("model.layers.{}.mlp.down_proj.x", layer));
    EXPECT_EQ(slots(o), want);
}

TEST(SmoothSwiGlu, EvaluationSeesWhatTrainingSees) {
    for (const Axis axis : kAxes) {
        const StepOptions o = smooth_options("smooth-swiglu", axis);
        const Graph g = eval_graph(o);
        EXPECT_EQ(nodes_of<SmoothSwiGlu>(g).size(), 2u);
        EXPECT_TRUE(names_of(g, true, "").empty());
        Session s(o);
        const test::TokenBatch batch = test::random_batch(o, 1);
        const auto weight = 1.0f / static_cast<float>(batch.ids.size());
        const float trained = s.micro(batch);
        EXPECT_EQ(s.program.evaluate(batch.ids, batch.targets, weight), trained);
    }
}

TEST(SmoothSwiGlu, LeavesModelsWithoutSwiGluAlone) {
    StepOptions plain = tiny_options(Family::gpt2, "fp8-lm"), smooth = plain;
    smooth.recipe.smooth = recipe_named("smooth-swiglu").smooth;
    EXPECT_EQ(to_text(micro_graph(smooth, false)), to_text(micro_graph(plain, false)));
}

// States by the table of the method: 4 bytes per Linear weight beside gradient and working copy.
TEST(SmoothSwiGlu, StatesTakeFourBytes) {
    const StepOptions o = tiny_options(Family::llama, "smooth-swiglu");
    const auto backend = test::make_test_backend();
    const TrainProgram program(*backend, o, false);
    const auto bytes = linear_state_bytes(program);
    // Scales, and the parts of small tensors that are padded to 64 bytes, come on top.
    const double sum = bytes.at("weight") + bytes.at("adam.m") + bytes.at("adam.v");
    EXPECT_GE(sum, 4.0);
    EXPECT_LE(sum, 4.2);
}

struct Composition {
    const char* recipe;
    Axis axis;
    bool step_before = false;
};
class SmoothRecipes : public testing::TestWithParam<Composition> {};

// Learns one batch by heart, about as fast as without; with recomputation, to the same bits.
TEST_P(SmoothRecipes, Learn) {
    StepOptions o = smooth_options(GetParam().recipe, GetParam().axis);
    o.recipe.smooth->step_before = GetParam().step_before;
    const auto losses = [](const StepOptions& options, int steps) {
        Session s(options);
        std::vector<float> found;
        for (int step = 1; step <= steps; ++step) {
            found.push_back(s.micro(test::random_batch(options, 1)));
            s.program.update(1e-2, step);
        }
        return found;
    };
    const auto smooth = losses(o, 40);
    const auto plain = losses(tiny_options(Family::llama, GetParam().recipe), 40);
    const auto wide = losses(tiny_options(Family::llama, "bf16"), 40);
    EXPECT_LT(smooth.back(), 0.5f * smooth.front());
    EXPECT_NEAR(smooth.back(), wide.back(), 0.1f * wide.front());
    EXPECT_NEAR(smooth.back(), plain.back(), 0.1f * wide.front());
    for (const Recompute level : {Recompute::norms, Recompute::ffn, Recompute::block}) {
        StepOptions again = o;
        again.recompute = level;
        EXPECT_EQ(losses(again, 5), losses(o, 5));
    }
    StepOptions apart = o;
    apart.fuse = false;
    EXPECT_NEAR(losses(apart, 1)[0], smooth[0], 1e-3);
}

INSTANTIATE_TEST_SUITE_P(
    Compositions, SmoothRecipes,
    testing::Values(Composition{"smooth-swiglu", Axis::row},
                    Composition{"smooth-swiglu", Axis::column}, Composition{"fp8-lm", Axis::row},
                    Composition{"moss", Axis::row}, Composition{"moss", Axis::column},
                    Composition{"blockwise", Axis::row}, Composition{"blockwise", Axis::column},
                    Composition{"smooth-swiglu", Axis::column, true},
                    Composition{"moss", Axis::column, true},
                    Composition{"blockwise", Axis::column, true}),
    [](const auto& test) {
        std::string name = test.param.recipe;
        std::erase(name, '-');
        return name + (test.param.axis == Axis::row ? "_token" : "_channel") +
               (test.param.step_before ? "_step" : "");
    });

}  // namespace
}  // namespace octavo
