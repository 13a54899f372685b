// Steps that measure their casts: the same bits as other steps, and true numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "base/convert.h"
#include "runtime/memory_plan.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;
using test::tiny_options;

StepOptions measured(StepOptions o) {
    o.measure = true;
    return o;
}

std::vector<TensorCast> measured_micro(Session& s, const test::TokenBatch& batch) {
    const float weight = 1 / static_cast<float>(batch.ids.size());
    return s.program.measured_micro(batch.ids, batch.targets, weight).casts;
}

std::set<std::string> names(const std::vector<TensorCast>& casts) {
    std::set<std::string> all;
    for (const TensorCast& c : casts) all.insert(c.tensor);
    EXPECT_EQ(all.size(), casts.size()) << "a tensor was measured twice";
    return all;
}

const CastStats& stats_of(const std::vector<TensorCast>& casts, const std::string& tensor) {
    const auto found = std::ranges::find(casts, tensor, &TensorCast::tensor);
    check(found != casts.end(), "no tensor '{}' was measured", tensor);
    return found->stats;
}

void expect_same_state(const State& a, const State& b) {
    ASSERT_EQ(a.entries().size(), b.entries().size());
    const auto bytes = [](const State& s, const State::Entry& e) {
        auto all = test::read_all(s, e.name);
        // What pads a copied number is whatever lay behind it.
        if (e.type.scaling == kUnscaled) all.resize(static_cast<std::size_t>(data_bytes(e.type)));
        return all;
    };
    for (const State::Entry& e : a.entries()) EXPECT_EQ(bytes(a, e), bytes(b, e)) << e.name;
}

// Three steps, of which one program measures all.
void expect_same_bits(const StepOptions& o, bool accumulates) {
    Session plain(o, accumulates), other(measured(o), accumulates);
    ASSERT_TRUE(other.program.measures());
    std::set<std::string> first;
    for (int step = 1; step <= 3; ++step) {
        const auto batch = test::random_batch(o, static_cast<std::uint64_t>(step));
        const auto next = test::random_batch(o, static_cast<std::uint64_t>(100 + step));
        plain.micro(batch);
        if (accumulates) {
            plain.micro(next, false);
            other.micro(batch);
        }
        const auto casts = measured_micro(other, accumulates ? next : batch);
        EXPECT_EQ(plain.program.loss(), other.program.loss());
        expect_same_state(plain.state(), other.state());
        plain.program.update(1e-3, step);
        other.program.update(1e-3, step);
        if (step == 1) first = names(casts);
        EXPECT_EQ(names(casts), first);
        for (const TensorCast& c : casts) {
            EXPECT_GT(c.stats.amax, 0) << c.tensor;
            EXPECT_GT(c.stats.scale_min, 0) << c.tensor;
            EXPECT_LE(c.stats.scale_min, c.stats.scale_max) << c.tensor;
            EXPECT_LT(c.stats.error, 0.2f) << c.tensor;
        }
    }
    expect_same_state(plain.state(), other.state());
}

TEST(MeasuredStep, LeavesTheBitsOfAnyOther) {
    for (const char* recipe : {"fp8-lm", "moss", "blockwise"}) {
        for (const Family family : {Family::llama, Family::gpt2}) {
            for (const Recompute recompute : {Recompute::none, Recompute::block}) {
                for (const bool fuse : {true, false}) {
                    SCOPED_TRACE(fmt::format("{} {} recompute {} fuse {}", recipe, name(family),
                                             static_cast<int>(recompute), fuse));
                    StepOptions o = tiny_options(family, recipe);
                    o.recompute = recompute;
                    o.fuse = fuse;
                    expect_same_bits(o, /*accumulates=*/fuse);
                }
            }
        }
    }
}

TEST(MeasuredStep, LeavesTheBitsOfRewrittenGraphs) {
    for (const char* recipe : {"smooth-swiglu", "scalify"}) {
        SCOPED_TRACE(recipe);
        StepOptions o = tiny_options(Family::llama, recipe);
        o.recompute = Recompute::block;
        expect_same_bits(o, /*accumulates=*/true);
        if (!o.recipe.smooth) continue;
        o.recipe.smooth->axis = Axis::column;
        o.recipe.smooth->export_window = 2;  // whose factors a measured micro-batch raises, too
        expect_same_bits(o, /*accumulates=*/true);
        o.recipe.smooth->step_before = true;
        expect_same_bits(o, /*accumulates=*/true);
    }
}

// Of those there are the ranges of SwiGLUs to measure.
TEST(MeasuredStep, LeavesTheBitsWithoutCasts) {
    for (const char* recipe : {"fp32", "bf16"}) {
        SCOPED_TRACE(recipe);
        for (const Recompute recompute : {Recompute::none, Recompute::block}) {
            StepOptions o = tiny_options(Family::llama, recipe);
            o.recompute = recompute;
            expect_same_bits(o, /*accumulates=*/false);
        }
    }
}

// A weight that takes an activation's factors is measured as it is cast.
TEST(MeasuredStep, SeesFoldedWeights) {
    StepOptions o = measured(tiny_options(Family::llama, "smooth-swiglu"));
    o.recipe.smooth->axis = Axis::column;
    Session s(o);
    const auto casts = measured_micro(s, test::random_batch(o, 1));
    const std::string down = "model.layers.1.mlp.down_proj";
    EXPECT_NE(stats_of(casts, down + ".x").amax, stats_of(casts, down + ".weight").amax);
    EXPECT_LT(stats_of(casts, down + ".weight").error, 0.03f);
}

TEST(MeasuredStep, LeavesTheBitsAtAllLevels) {
    for (const char* level : {"O1", "O3"}) {
        for (const bool accumulates : {false, true}) {
            SCOPED_TRACE(level);
            StepOptions o = tiny_options(Family::llama, "fp8-lm");
            o.recipe.states = fp8_lm_states(level);
            expect_same_bits(o, accumulates);
        }
    }
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.recipe.cache_weights = false;
    expect_same_bits(o, false);
    o.recipe.quantise_head = true;
    expect_same_bits(o, false);
}

TEST(MeasuredStep, SeesEveryTensorOnceInTheOrderOfTheModel) {
    StepOptions o = measured(tiny_options(Family::llama, "fp8-lm"));
    o.recipe.states = fp8_lm_states("O1");
    Session s(o);
    const auto casts = measured_micro(s, test::random_batch(o, 1));
    std::set<std::string> want;
    const std::string linears[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                   "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                   "mlp.down_proj"};
    for (int layer : {0, 1}) {
        const std::string stem = fmt::format("model.layers.{}.", layer);
        for (const std::string& linear : linears) {
            want.insert(stem + linear + ".weight");
            want.insert(stem + linear + ".dy");
            want.insert(stem + linear + ".grad");
        }
        for (int i : {0, 3, 4, 6}) want.insert(stem + linears[i] + ".x");  // the others share one
    }
    EXPECT_EQ(names(casts), want);
    // Layer by layer, whatever the backward pass does.
    std::vector<int> layers;
    for (const TensorCast& c : casts) layers.push_back(split_tensor_name(c.tensor).layer);
    EXPECT_TRUE(std::ranges::is_sorted(layers));
}

TEST(MeasuredStep, SeesTransposesThatHaveScalesOfTheirOwn) {
    for (const char* recipe : {"moss", "blockwise"}) {
        for (const Recompute recompute : {Recompute::none, Recompute::block}) {
            StepOptions o = measured(tiny_options(Family::llama, recipe));
            o.recompute = recompute;
            Session s(o);
            const auto casts = measured_micro(s, test::random_batch(o, 1));
            for (const std::string stem :
                 {"model.layers.0.mlp.gate_proj.x", "model.layers.1.self_attn.o_proj.dy"}) {
                const CastStats& rows = stats_of(casts, stem);
                const CastStats& columns = stats_of(casts, stem + "_t");
                EXPECT_EQ(rows.amax, columns.amax) << stem;
                EXPECT_NE(rows.error, columns.error) << stem;
            }
        }
    }
}

// What was measured of a weight is what State says.
TEST(MeasuredStep, TellsTheTruthAboutWeights) {
    const StepOptions o = measured(tiny_options(Family::llama, "fp8-lm"));
    Session s(o);
    const auto casts = measured_micro(s, test::random_batch(o, 1));
    const std::string weight = "model.layers.1.mlp.up_proj.weight";
    const auto master = test::read_f32(s.state(), weight);
    const auto copy = test::read_all(s.state(), "work.e4m3/" + weight);
    float scale = 0, amax = 0;
    std::memcpy(&scale, copy.data() + (master.size() + 63) / 64 * 64, sizeof(scale));
    std::vector<float> codes(master.size());
    convert(std::span(copy).first(master.size()), Dtype::e4m3,
            std::as_writable_bytes(std::span(codes)), Dtype::f32);
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < master.size(); ++i) {
        amax = std::max(amax, std::abs(master[i]));
        const double x = master[i], d = x - double{codes[i]} * scale;
        signal += x * x;
        noise += d * d;
    }
    const CastStats& stats = stats_of(casts, weight);
    EXPECT_EQ(stats.amax, amax);
    EXPECT_EQ(stats.scale_min, scale);
    EXPECT_EQ(stats.scale_max, scale);
    EXPECT_EQ(stats.saturated, 0);
    EXPECT_NEAR(stats.error, std::sqrt(noise / signal), 1e-6);
}

// A delayed scale that is too small for what comes.
TEST(MeasuredStep, FindsWhatSaturates) {
    StepOptions o = measured(tiny_options(Family::llama, "fp8-lm"));
    o.recipe.window = 1;
    Session s(o);
    const auto batch = test::random_batch(o, 1);
    s.micro(batch);
    s.program.update(1e-4, 1);
    const std::string x = "model.layers.0.self_attn.q_proj.x";
    EXPECT_EQ(stats_of(measured_micro(s, batch), x).saturated, 0);
    s.program.update(1e-4, 2);
    const std::string norm = "model.layers.0.input_layernorm.weight";
    auto gain = test::read_f32(s.state(), norm);
    for (float& g : gain) g *= 8;
    s.state().write(norm, gain.data());
    const CastStats stats = stats_of(measured_micro(s, batch), x);
    EXPECT_GT(stats.saturated, 0.01f);
    EXPECT_GT(stats.amax, 448 * stats.scale_max);
}

TEST(MeasuredStep, NothingToMeasureMeansNoPlan) {
    for (const char* recipe : {"fp32", "bf16"}) {
        EXPECT_FALSE(Session(measured(tiny_options(Family::gpt2, recipe))).program.measures());
        const Session swiglu(measured(tiny_options(Family::llama, recipe)));
        EXPECT_TRUE(swiglu.program.measures());
        EXPECT_FALSE(swiglu.program.measures_casts());
    }
    EXPECT_FALSE(Session(tiny_options(Family::llama, "moss")).program.measures());
}

// Values are measured when they are cast: none of the forward pass waits for the backward pass.
TEST(MeasuredStep, TakesLittleMemory) {
    for (const char* recipe : {"fp8-lm", "moss", "blockwise"}) {
        for (const bool gpu : {false, true}) {
            StepOptions o = tiny_options(Family::llama, recipe);
            o.architecture.layers = 8;
            o.batch = 4;
            o.seq = 64;
            o.target.k_major_fp8 = o.target.fused_quantisers = gpu;
            const auto arena = [&](bool measure) {
                return plan_memory(micro_graph(o, false, measure)).arena_bytes;
            };
            // What a SwiGLU makes and takes in bf16, and a transpose.
            const std::int64_t wide = 2 * o.batch * o.seq * o.architecture.intermediate_size;
            EXPECT_LE(arena(true), arena(false) + 3 * wide) << recipe << " " << gpu;
        }
    }
}

}  // namespace
}  // namespace octavo
