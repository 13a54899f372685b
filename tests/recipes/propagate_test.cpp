// Scale propagation as a rewriting of graphs: it moves no bit of any f32 graph, and measures what
// the recipe says.
#include "recipes/propagate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "base/rng.h"
#include "io/scratch.h"
#include "recipes/graph_queries.h"
#include "runtime/program.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::nodes_of;
using test::tiny_options;

constexpr std::int64_t kBatch = 2, kTime = 8, kWidth = 16, kVocab = 24;

// A random net over (B, T, C) values, its loss, and its gradients by all parameters.
class RandomNet {
  public:
    explicit RandomNet(std::uint64_t seed) : rng_(seed, 0), b(graph_) {
        const Value ids = b.input("ids", {Dtype::i32, {kBatch, kTime}});
        mask_ = b.input("mask", {Dtype::i32, {kBatch, kTime, kWidth}});
        values_ = {b.one(Embedding{}, {parameter({kVocab, kWidth}), ids})};
        for (int i = 0; i < 18; ++i) values_.push_back(random_op());
        Value x = values_.back();
        for (std::size_t i = 0; i + 1 < values_.size(); ++i) {
            if (below(3) == 0) x = b.add(x, values_[i]);
        }
        // Larger logits would have probabilities that are subnormal, and round, in f32.
        const Value head = parameter({kVocab, kWidth}, -2);
        const Value logits = b.reshape(b.linear(norm(x), head), {kBatch * kTime, kVocab});
        const Value targets = b.input("targets", {Dtype::i32, {kBatch * kTime}});
        const Value weight = b.input("weight", {Dtype::f32, {1}});
        const Value loss = b.emit(CrossEntropy{}, {logits, targets, weight})[0];
        const Values gradients = differentiate(b, loss, parameters_);
        b.output("loss", loss);
        for (std::size_t i = 0; i < gradients.size(); ++i) {
            if (gradients[i]) b.output(fmt::format("gradient {}", i), gradients[i]);
        }
    }

    const Graph& graph() const { return graph_; }

  private:
    std::uint64_t below(std::uint64_t n) { return rng_.bits64(drawn_++) % n; }
    Value pick() { return values_[below(values_.size())]; }

    Value parameter(Shape shape, int exponent) {
        const Load load{fmt::format("p{}", parameters_.size()), {Dtype::f32, shape}, exponent};
        parameters_.push_back(b.one(load, {}));
        return parameters_.back();
    }
    Value parameter(Shape shape) { return parameter(shape, static_cast<int>(below(9)) - 6); }
    Value gain() { return parameter({kWidth}, 0); }

    Value norm(Value x) {
        if (below(2) == 0) return b.emit(RmsNorm{1e-2f}, {x, gain()})[0];
        return b.emit(LayerNorm{1e-2f}, {x, gain(), gain()})[0];
    }

    // Probabilities over 8 have an odd exponent.
    Value positive() {
        const Value rows = b.reshape(norm(pick()), {kBatch * kTime * 2, kWidth / 2});
        const Value p = b.reshape(b.one(Softmax{}, {rows}), {kBatch, kTime, kWidth});
        return b.mul(p, b.one(Exp{}, {norm(pick())}));
    }

    Value random_op() {
        const Shape stream{kBatch, kTime, kWidth}, heads{kBatch, kTime, 2, kWidth / 2};
        switch (below(16)) {
            case 0:
                return b.add(pick(), pick());
            case 1:
                return norm(b.mul(norm(pick()), pick()));
            case 2:
                return b.linear(pick(), parameter({kWidth, kWidth}));
            case 3:
                return b.conv1d(norm(pick()), parameter({kWidth, kWidth}));
            case 4:
                return b.one(Silu{}, {pick()});
            case 5:
                return b.one(Gelu{}, {pick()});
            case 6:
                return b.one(SwiGlu{}, {pick(), norm(pick())});
            case 7:
                return norm(pick());
            case 8: {
                const Rope rope{.max_positions = kTime};
                const Value q = b.one(rope, {b.reshape(norm(pick()), heads)});
                const Value k = b.one(rope, {b.reshape(norm(pick()), heads)});
                const Value o = b.emit(Attention{0.35f}, {q, k, b.reshape(pick(), heads)})[0];
                return b.reshape(o, stream);
            }
            case 9: {
                const Value turned = b.one(Transpose{}, {b.reshape(pick(), {16, kWidth})});
                return b.reshape(b.one(Silu{}, {turned}), stream);
            }
            case 10: {
                const Values halves = b.emit(Split{{6, 10}}, {pick()});
                return b.one(Concat{}, {halves[1], b.one(Gelu{}, {halves[0]})});
            }
            case 11:
                return b.one(Relu{}, {pick()});
            case 12:
                return b.one(Select{}, {mask_, pick(), pick()});
            case 13:
                return norm(b.one(Sqrt{}, {positive()}));
            case 14:
                return norm(b.one(Rsqrt{}, {positive()}));
            default:
                return b.one(BiasAdd{}, {pick(), parameter({kWidth})});
        }
    }

    Rng rng_;
    std::uint64_t drawn_ = 0;
    Graph graph_;
    Builder b;
    Value mask_;
    Values values_, parameters_;
};

std::map<std::string, std::vector<std::byte>> run(const Graph& g, std::uint64_t seed) {
    Program program(test::backend());
    program.add("net", g);
    program.allocate(test::kNoLimit);
    for (const Node& n : g.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        if (!load) continue;
        std::vector<float> values(static_cast<std::size_t>(load->type.shape.elements()));
        const Rng rng(seed, std::hash<std::string>{}(load->name));
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = std::ldexp(rng.normal(i), *load->exponent);
        }
        write_values(program.state(), load->name, values);
    }
    std::vector<std::int32_t> ids(kBatch * kTime), targets(ids), mask(ids.size() * kWidth);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        ids[i] = static_cast<std::int32_t>(Rng(seed, 1).bits64(i) % kVocab);
        targets[i] = static_cast<std::int32_t>(Rng(seed, 2).bits64(i) % (kVocab + 1)) - 1;
    }
    for (std::size_t i = 0; i < mask.size(); ++i) {
        mask[i] = static_cast<std::int32_t>(Rng(seed, 3).bits64(i) % 2);
    }
    const float weight = 1.0f / 13;
    program.write_input("net", "ids", ids.data());
    program.write_input("net", "mask", mask.data());
    program.write_input("net", "targets", targets.data());
    program.write_input("net", "weight", &weight);
    program.run("net");
    std::map<std::string, std::vector<std::byte>> found;
    for (const Output& o : program.plan("net").graph().outputs()) {
        auto& bytes = found[o.name];
        bytes.resize(static_cast<std::size_t>(data_bytes(g.type(o.value))));
        program.read_output("net", o.name, bytes.data());
    }
    return found;
}

bool finite(const std::vector<std::byte>& f32) {
    std::vector<float> values(f32.size() / sizeof(float));
    std::memcpy(values.data(), f32.data(), f32.size());
    return std::ranges::all_of(values, [](float v) { return std::isfinite(v); });
}

// S1 on random graphs. Outputs are values, whatever scales they had on the way.
TEST(Propagate, MovesNoBitOfRandomF32Nets) {
    int scaled = 0, measured = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        const RandomNet net(seed);
        const auto plain = run(net.graph(), seed);
        for (const bool rescale : {false, true}) {
            Propagation options{.rescale_norms = rescale};
            options.statistic = static_cast<Statistic>(seed % 3);
            const Graph g = propagate(net.graph(), options);
            const auto same = run(g, seed);
            ASSERT_EQ(plain.size(), same.size());
            for (const auto& [name, bytes] : plain) {
                EXPECT_TRUE(finite(bytes)) << "seed " << seed << ", " << name;
                EXPECT_TRUE(bytes == same.at(name)) << "seed " << seed << ", " << name;
            }
            for (const Node* n : nodes_of<Matmul>(g)) {
                scaled += std::get<Matmul>(n->op).exponent != 0;
            }
            measured += static_cast<int>(nodes_of<ScaledAdd>(g).size());
        }
    }
    EXPECT_GT(scaled, 200);
    EXPECT_GT(measured, 100);
}

TEST(Propagate, NamesOpsWithoutARule) {
    Graph g;
    Builder b(g);
    const auto scope = b.scope("layers.0");
    const Value x = b.input("x", {Dtype::f32, {4}});
    b.output("y", b.one(Amax{}, {x}));
    EXPECT_EQ(error_of([&] { propagate(g, {}); }),
              "amax 'layers.0' has no scale rule.\n"
              "  Recipes that propagate scales cannot train what computes with it.");
}

// Scales that f32 has no normal number for, and factors between two that are too far apart.
TEST(Propagate, RefusesScalesBeyondF32) {
    const Type type{Dtype::f32, {4, 4}};
    const auto run = [&](int a, int b, auto&& build) {
        Graph g;
        Builder builder(g);
        const auto scope = builder.scope("layers.0");
        const Value x = builder.constant(type, std::ldexp(1, a)),
                    y = builder.constant(type, std::ldexp(1, b));
        builder.output("z", build(builder, x, y));
        propagate(g, {});
    };
    const auto refusal = [&](int a, int b, auto&& build) {
        return error_of([&] { run(a, b, build); });
    };
    const std::string range =
        " leaves the range of scales, 2^-126 to 2^127.\n"
        "  Scales follow from shapes and from the sizes of initial weights.";
    const auto mul = [](Builder& b, Value x, Value y) { return b.mul(x, y); };
    const auto add = [](Builder& b, Value x, Value y) { return b.add(x, y); };
    const auto product = [](Builder& b, Value x, Value y) { return b.linear(x, y); };
    EXPECT_EQ(refusal(64, 64, mul), "mul 'layers.0': a scale of 2^128" + range);
    EXPECT_EQ(refusal(-64, -63, mul), "mul 'layers.0': a scale of 2^-127" + range);
    EXPECT_NO_THROW(run(64, 63, mul));
    EXPECT_NO_THROW(run(-63, -63, mul));
    EXPECT_EQ(refusal(100, 27, product), "matmul 'layers.0': a scale of 2^128" + range);
    EXPECT_EQ(refusal(-100, 27, add), "add 'layers.0': a factor of 2^-127" + range);
    EXPECT_NO_THROW(run(-100, 26, add));
    const auto loads = [&](Builder& b, Value x, Value) {
        return b.add(x, b.one(Load{"w", type, 128}, {}));
    };
    EXPECT_EQ(refusal(0, 0, loads), "load 'layers.0': a scale of 2^128" + range);
}

// S8: two statistics per layer, and nothing per product.
TEST(Propagate, MeasuresTwoTensorsOfALayer) {
    for (const Family family : {Family::llama, Family::qwen3, Family::gpt2}) {
        const StepOptions o = tiny_options(family, "scalify");
        const Graph g = micro_graph(o, false);
        EXPECT_TRUE(nodes_of<DynamicRescale>(g).empty());
        EXPECT_TRUE(nodes_of<Amax>(g).empty());
        EXPECT_TRUE(nodes_of<DelayedQuantise>(g).empty());
        std::size_t measured = 0;
        for (const Node& n : g.nodes()) {
            const auto* rms = std::get_if<RmsNormGrad>(&n.op);
            const auto* layer = std::get_if<LayerNormGrad>(&n.op);
            if (!(rms && rms->measure) && !(layer && layer->measure)) continue;
            ++measured;
            EXPECT_TRUE(n.label.find("layernorm") != std::string::npos ||
                        n.label.find(".ln_") != std::string::npos)
                << n.label;
        }
        EXPECT_EQ(measured, 2u * o.architecture.layers);
    }
}

// Between two products of a GPU's backward pass there is one pass over memory where there can be.
TEST(Propagate, CastsComputeWhatTheyRead) {
    StepOptions o = tiny_options(Family::llama, "scalify");
    o.target = {.k_major_fp8 = true, .accumulate_products = true, .fused_quantisers = true};
    const Graph g = micro_graph(o, false);
    const std::size_t layers = o.architecture.layers;
    EXPECT_TRUE(nodes_of<SwiGlu>(g).empty());
    EXPECT_TRUE(nodes_of<SwiGluGrad>(g).empty());
    std::map<QuantiseSource, std::size_t> casts;
    for (const Node* n : nodes_of<Cast>(g)) ++casts[std::get<Cast>(n->op).of];
    EXPECT_EQ(casts[QuantiseSource::swiglu], layers);
    EXPECT_EQ(casts[QuantiseSource::swiglu_grad], layers);
    std::size_t sums = 0;
    for (const Node* n : nodes_of<ScaledAdd>(g)) {
        sums += std::get<ScaledAdd>(n->op).cast.has_value();
    }
    EXPECT_EQ(sums, 2 * layers - 1);  // the embedding reads the last
    // A launch for all scales of gradients that share a base.
    EXPECT_LE(nodes_of<ScaleByPowers>(g).size(), 2 * layers + 1);
    for (const Node* n : nodes_of<Cast>(g)) EXPECT_NE(g.type(n->out[0]), (Type{Dtype::f32, {1}}));
}

// As the paper's code has it; what is fused cannot be asked.
TEST(Propagate, OverflowsBecomeNanOnRequest) {
    StepOptions o = tiny_options(Family::llama, "scalify");
    o.target = {.k_major_fp8 = true, .accumulate_products = true, .fused_quantisers = true};
    EXPECT_TRUE(nodes_of<OverflowToNan>(micro_graph(o, false)).empty());
    o.recipe.propagation->scales.nan_casts = true;
    o.accumulates = true;
    const Graph micro = micro_graph(o, false);
    for (const Graph& g : {micro, update_graph(o, micro), refresh_graph(o.recipe, micro)}) {
        std::size_t casts = 0;
        for (const Node& n : g.nodes()) {
            EXPECT_FALSE(std::holds_alternative<ScaledAdd>(n.op) &&
                         std::get<ScaledAdd>(n.op).cast.has_value());
            const auto* adamw = std::get_if<AdamW>(&n.op);
            EXPECT_FALSE(adamw && adamw->copy && is_fp8(adamw->copy->to));
            const auto* cast = std::get_if<Cast>(&n.op);
            if (!cast || !is_fp8(cast->to)) continue;
            ++casts;
            const Node& marks = g.node(g.producer(n.in[0]));
            ASSERT_TRUE(std::holds_alternative<OverflowToNan>(marks.op)) << n.label;
            EXPECT_EQ(std::get<OverflowToNan>(marks.op), (OverflowToNan{cast->to, cast->exponent}));
        }
        EXPECT_GT(casts, 0u);
    }
}

class ScalifyGraph : public testing::TestWithParam<Family> {};

TEST_P(ScalifyGraph, ProductsHaveUnscaledCodes) {
    const Graph g = micro_graph(tiny_options(GetParam(), "scalify"), false);
    const bool swapped = GetParam() == Family::gpt2;  // dW = X^T dY there
    const auto expect = [&](MatmulKind kind, Dtype a, Dtype b, Dtype out) {
        const auto nodes = test::products(g, kind);
        EXPECT_EQ(nodes.size(), GetParam() == Family::gpt2 ? 8u : 14u);
        for (const Node* n : nodes) {
            const Type &x = g.type(n->in[0]), &y = g.type(n->in[1]);
            EXPECT_EQ(x, (Type{a, x.shape})) << n->label;
            EXPECT_EQ(y, (Type{b, y.shape})) << n->label;
            EXPECT_EQ(g.type(n->out[0]).dtype, out) << n->label;
        }
    };
    expect(MatmulKind::fprop, Dtype::e4m3, Dtype::e4m3, Dtype::f16);
    expect(MatmulKind::dgrad, Dtype::e5m2, Dtype::e4m3, Dtype::f16);
    expect(MatmulKind::wgrad, swapped ? Dtype::e4m3 : Dtype::e5m2,
           swapped ? Dtype::e5m2 : Dtype::e4m3, Dtype::f32);
}

INSTANTIATE_TEST_SUITE_P(Families, ScalifyGraph, testing::Values(Family::llama, Family::gpt2));

TEST(Propagate, TheHeadCarriesItsFactors) {
    const Graph g = micro_graph(tiny_options(Family::llama, "scalify"), false);
    const auto heads = nodes_of<HeadLoss>(g);
    ASSERT_EQ(heads.size(), 1u);
    const HeadExponents& e = std::get<HeadLoss>(heads[0]->op).exponents;
    // Hidden states of size 1, a weight of 2^-6, K = 32: the logits have 2^-6 2^2.
    EXPECT_EQ(e.fprop, -2);
    EXPECT_EQ(e.logits, -4);
    EXPECT_EQ(e.gradient, 4);  // sqrt(63) / 64
    EXPECT_EQ(e.dgrad, -3);    // K = 64 classes
    EXPECT_EQ(e.wgrad, -2);    // and 32 tokens
    EXPECT_EQ(g.type(heads[0]->in[0]).dtype, Dtype::f16);
}

}  // namespace
}  // namespace octavo
