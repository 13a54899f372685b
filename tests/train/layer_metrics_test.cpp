// Numbers of layers in measured steps, against f64.
#include "train/layer_metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/convert.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;
using test::tiny_options;

constexpr const char* kLabel = "model.layers.1.mlp";

StepOptions measured(std::string_view recipe) {
    StepOptions o = tiny_options(Family::llama, recipe);
    o.measure = true;
    return o;
}

Measured measured_micro(Session& s, const test::TokenBatch& batch) {
    return s.program.measured_micro(batch.ids, batch.targets,
                                    1 / static_cast<float>(batch.ids.size()));
}

double number(const NamedNumbers& numbers, const std::string& name) {
    const auto found = std::ranges::find(numbers, name, &NamedNumbers::value_type::first);
    check(found != numbers.end(), "no number '{}'", name);
    return found->second;
}

void multiply_weight(Session& s, const std::string& name, float factor) {
    std::vector<float> values = read_values(s.state(), name);
    for (float& x : values) x *= factor;
    write_values(s.state(), name, values);
    s.program.refresh();
}

// gate and up (tokens, channels) of the measured micro-batch that this program would run next.
struct Operands {
    std::vector<float> gate, up;
};
Operands operands(Session& s, const test::TokenBatch& batch) {
    Graph g = micro_graph(s.program.options(), false, /*measure=*/true);
    std::vector<Value> values;
    for (const Node& n : g.nodes()) {
        const bool plain = std::holds_alternative<SwiGlu>(n.op) && n.phase == Phase::forward;
        if (plain && n.label == kLabel) values = {n.in[0], n.in[1]};
    }
    check(values.size() == 2, "no SwiGLU '{}'", kLabel);
    g.add_output("gate", values[0]);
    g.add_output("up", values[1]);
    Program p(*s.backend);
    p.add("operands", g);
    p.allocate(test::kNoLimit);
    for (const State::Entry& e : p.state().entries()) {
        p.state().write_all_parts(e.name, test::read_all(s.state(), e.name).data());
    }
    const float weight = 1 / static_cast<float>(batch.ids.size());
    p.write_input("operands", "ids", batch.ids.data());
    p.write_input("operands", "targets", batch.targets.data());
    p.write_input("operands", "weight", &weight);
    p.run("operands");
    const auto read = [&](const char* name, Value v) {
        const Type& type = g.type(v);
        std::vector<std::byte> bytes(static_cast<std::size_t>(data_bytes(type)));
        p.read_output("operands", name, bytes.data());
        std::vector<float> x(static_cast<std::size_t>(type.shape.elements()));
        convert(bytes, type.dtype, std::as_writable_bytes(std::span(x)), Dtype::f32);
        return x;
    };
    return {read("gate", values[0]), read("up", values[1])};
}

// Shares are of elements: how many these are.
std::int64_t elements(double share, const std::vector<double>& of) {
    return std::llround(share * static_cast<double>(of.size()));
}

std::int64_t below(double threshold, const std::vector<double>& x) {
    return std::ranges::count_if(x, [&](double value) { return value < threshold; });
}

struct Case {
    const char* granularity;
    int margin = 0;    // bits of room above the scale
    float growth = 1;  // of the gate's weights since the scale was made
};

// What a step says of layer 1, against what follows from its gate and up. h is rounded to bf16
// between: 2^-8 around a threshold are open.
void expect_true(const Case& c) {
    SCOPED_TRACE(fmt::format("{} margin {} growth {}", c.granularity, c.margin, c.growth));
    const std::string granularity = c.granularity;
    const bool smooth = granularity != "off";
    StepOptions o = measured(smooth ? "smooth-swiglu" : "fp8-lm");
    o.recipe.window = 1;
    Format& hidden = smooth ? o.recipe.smooth->hidden : *o.recipe.activation;
    hidden.margin = c.margin;
    hidden.provider = Provider::delayed;
    const Axis axis = granularity == "channel" ? Axis::column : Axis::row;
    if (smooth) o.recipe.smooth->axis = axis;
    Session s(o);
    const auto batch = test::random_batch(o, 1);
    for (int step = 1; step <= 2; ++step) {
        s.micro(batch);
        s.program.update(0, step);
    }
    multiply_weight(s, std::string(kLabel) + ".gate_proj.weight", c.growth);
    const Operands x = operands(s, batch);
    const Measured step = measured_micro(s, batch);
    const NamedNumbers numbers = swiglu_metrics(s.state(), step);

    const auto channels = static_cast<std::size_t>(o.architecture.intermediate_size);
    const std::size_t tokens = x.gate.size() / channels;
    std::vector<double> factors(axis == Axis::row ? tokens : channels, 0x1p-24);
    const auto of = [&](std::size_t i) { return axis == Axis::row ? i / channels : i % channels; };
    for (std::size_t i = 0; i < x.up.size(); ++i) {
        double& f = factors[of(i)];
        f = std::max(f, std::exp2(std::ceil(std::log2(std::abs(double{x.up[i]}) + 1e-30))));
    }
    std::vector<double> h, left;
    for (std::size_t i = 0; i < x.up.size(); ++i) {
        const double a = x.gate[i], b = x.up[i];
        h.push_back(std::abs(a / (1 + std::exp(-a)) * b));
        left.push_back(smooth ? h.back() / factors[of(i)] : h.back());
    }
    const double amax = std::ranges::max(h);
    EXPECT_NEAR(number(numbers, "swiglu.amax.1"), amax, amax / 256);
    if (smooth) {
        const double smooth_amax = std::ranges::max(left);
        EXPECT_NEAR(number(numbers, "swiglu.smooth_amax.1"), smooth_amax, smooth_amax / 256);
        EXPECT_EQ(number(numbers, "swiglu.sig_min.1"), std::ranges::min(factors));
        EXPECT_EQ(number(numbers, "swiglu.sig_max.1"), std::ranges::max(factors));
    } else {
        EXPECT_THROW(number(numbers, "swiglu.sig_min.1"), Error);
        EXPECT_THROW(number(numbers, "swiglu.smooth_amax.1"), Error);
    }

    const auto cast =
        std::ranges::find(step.casts, std::string(kLabel) + ".down_proj.x", &TensorCast::tensor);
    ASSERT_NE(cast, step.casts.end());
    const double scale = cast->stats.scale_max, open = 1.0 / 256;
    const double most = 448 * scale, least = 0x1p-10 * scale;
    const double saturated = number(numbers, "swiglu.sat_frac.1");
    const double flushed = number(numbers, "swiglu.flush_frac.1");
    const std::int64_t kept = elements(1 - saturated, left);
    EXPECT_GE(kept, below(most * (1 - open), left));
    EXPECT_LE(kept, below(most * (1 + open), left));
    EXPECT_GE(elements(flushed, left), below(least * (1 - open), left));
    EXPECT_LE(elements(flushed, left), below(least * (1 + open), left));
    EXPECT_EQ(std::ranges::count(left, 0.0), 0);
    if (c.growth > 1) {
        EXPECT_GT(saturated, 0);
    }
    if (c.margin > 0) {
        EXPECT_GT(flushed, 0);
    }
}

TEST(LayerMetrics, WhatSwiGlusMakeAndTheirCastsLose) {
    for (const char* granularity : {"token", "channel", "off"}) {
        expect_true({granularity});
        expect_true({granularity, /*margin=*/8});
        expect_true({granularity, 0, /*growth=*/16});
    }
}

// Factors of the step before are those that were divided by.
TEST(LayerMetrics, FactorsThatAreGiven) {
    StepOptions o = measured("smooth-swiglu");
    o.recipe.smooth->axis = Axis::column;
    o.recipe.smooth->step_before = true;
    Session s(o);
    const auto batch = test::random_batch(o, 1);
    const NamedNumbers first = swiglu_metrics(s.state(), measured_micro(s, batch));
    EXPECT_EQ(number(first, "swiglu.sig_min.1"), 1);
    EXPECT_EQ(number(first, "swiglu.sig_max.1"), 1);
    s.program.update(1e-4, 1);
    const auto factors =
        read_values(s.state(), smooth_factor_name(std::string(kLabel) + ".down_proj.weight"));
    const NamedNumbers second = swiglu_metrics(s.state(), measured_micro(s, batch));
    EXPECT_LT(std::ranges::min(factors), 1);
    EXPECT_EQ(number(second, "swiglu.sig_min.1"), std::ranges::min(factors));
    EXPECT_EQ(number(second, "swiglu.sig_max.1"), std::ranges::max(factors));
}

TEST(LayerMetrics, AlignmentOfTheWeightsInState) {
    for (const char* recipe : {"bf16", "smooth-swiglu"}) {  // masters in f32, in f16 under a scale
        SCOPED_TRACE(recipe);
        Session s(measured(recipe));
        const auto numbers = swiglu_metrics(
            s.state(), measured_micro(s, test::random_batch(s.program.options(), 1)));
        const auto gate = read_values(s.state(), std::string(kLabel) + ".gate_proj.weight");
        const auto up = read_values(s.state(), std::string(kLabel) + ".up_proj.weight");
        std::vector<double> cosines, gates, ups, ratios;
        for (std::size_t at = 0; at < gate.size(); at += 32) {
            double gg = 0, uu = 0, gu = 0;
            for (std::size_t i = at; i < at + 32; ++i) {
                gg += std::pow(double{gate[i]}, 2);
                uu += std::pow(double{up[i]}, 2);
                gu += double{gate[i]} * double{up[i]};
            }
            cosines.push_back(std::abs(gu) / std::sqrt(gg * uu));
            gates.push_back(std::sqrt(gg));
            ups.push_back(std::sqrt(uu));
            ratios.push_back(gates.back() / ups.back());
        }
        for (auto* all : {&cosines, &gates, &ups, &ratios}) std::ranges::sort(*all);
        ASSERT_EQ(cosines.size(), 96u);
        EXPECT_NEAR(number(numbers, "swiglu.cos_p50.1"), cosines[47], 1e-9);
        EXPECT_NEAR(number(numbers, "swiglu.cos_p99.1"), cosines[95], 1e-9);
        EXPECT_NEAR(number(numbers, "swiglu.cos_max.1"), cosines[95], 1e-9);
        EXPECT_NEAR(number(numbers, "swiglu.norm_gate_max.1"), gates[95], 1e-9);
        EXPECT_NEAR(number(numbers, "swiglu.norm_up_max.1"), ups[95], 1e-9);
        EXPECT_NEAR(number(numbers, "swiglu.norm_ratio.1"), ratios[47], 1e-9);
    }
}

TEST(LayerMetrics, Names) {
    const auto names = [](const StepOptions& o) {
        Session s(o);
        std::set<std::string> all;
        const auto numbers = swiglu_metrics(s.state(), measured_micro(s, test::random_batch(o, 1)));
        for (const auto& [name, value] : numbers) {
            EXPECT_TRUE(std::isfinite(value)) << name;
            if (name.ends_with(".0")) all.insert(name.substr(7, name.size() - 9));
        }
        EXPECT_EQ(numbers.size(), 2 * all.size());  // two layers
        return all;
    };
    std::set<std::string> want{"cos_p50",     "cos_p99",    "cos_max", "norm_gate_max",
                               "norm_up_max", "norm_ratio", "amax"};
    EXPECT_EQ(names(measured("bf16")), want);
    want.insert({"sat_frac", "flush_frac"});
    EXPECT_EQ(names(measured("fp8-lm")), want);
    EXPECT_EQ(names(measured("blockwise")), want);
    want.insert({"smooth_amax", "sig_min", "sig_max"});
    EXPECT_EQ(names(measured("smooth-swiglu")), want);
    // All experts of a layer together; rows that pad them are no minimum.
    StepOptions mixture = measured("smooth-swiglu");
    mixture.architecture = test::tiny(Family::qwen3_moe);
    mixture.architecture.experts = {.count = 4, .per_token = 2, .intermediate_size = 32};
    EXPECT_EQ(names(mixture), want);
}

// Gradients of very different sizes into second moments that have some already; but for those that
// a floor has caught, which stay above 0 by themselves.
void expect_flushed(const StepOptions& o) {
    Session s(o);
    const auto batch = test::random_batch(o, 1);
    const std::vector<Parameter> params = parameters(o.architecture);
    std::map<std::string, std::vector<float>> gradients;
    std::vector<FlushedMoment> moments;
    std::map<std::string, std::vector<float>> before;
    double norm = 0;
    const auto stored = [&](const std::string& parameter) {
        return read_values(s.state(), (o.adamw.sqrt_v ? "adam.sqrt_v/" : "adam.v/") + parameter);
    };
    for (int step = 1; step <= (o.adamw.v_floor ? 1 : 2); ++step) {
        s.micro(batch);
        norm = 0;
        for (const Parameter& p : params) {
            auto& g = gradients[p.name];
            g = read_values(s.state(), gradient_name(p.name));
            const Rng rng(static_cast<std::uint64_t>(step), random_stream(p.name));
            for (std::size_t i = 0; i < g.size(); ++i) {
                g[i] = 1e-4f * std::exp(4 * rng.normal(i));
                norm += double{g[i]} * double{g[i]};
            }
            write_values(s.state(), gradient_name(p.name), g);
        }
        moments = s.program.flushed_moments();
        for (const FlushedMoment& m : moments) before[m.parameter] = stored(m.parameter);
        s.program.update(1e-4, step);
    }
    ASSERT_EQ(moments.size(), 14u);  // the Linear weights of two layers
    const double factor = std::min(1.0, o.clip / (std::sqrt(norm) + 1e-6));
    const MomentFormat& format = o.recipe.states.v;
    const double most = max_value(format.dtype);
    const double half_code = format.dtype == Dtype::e4m3 ? 0x1p-10 : 0x1p-17;
    for (const FlushedMoment& m : moments) {
        const auto& g = gradients.at(m.parameter);
        std::vector<double> next;
        for (std::size_t i = 0; i < g.size(); ++i) {
            double v = before.at(m.parameter)[i];
            if (o.adamw.sqrt_v) v *= v;
            v = 0.95 * v + 0.05 * std::pow(factor * double{g[i]}, 2);
            next.push_back(o.adamw.sqrt_v ? std::sqrt(v) : v);
        }
        const double amax = std::ranges::max(next);
        const double scale = o.adamw.scale_rounding == ScaleRounding::exact
                                 ? amax / most
                                 : std::exp2(std::ceil(std::log2(amax / most)));
        const double least = half_code * scale;
        EXPECT_GE(elements(m.share, next), below(least * (1 - 1e-4), next));
        EXPECT_LE(elements(m.share, next), below(least * (1 + 1e-4), next));
        EXPECT_GT(m.share, 0) << m.parameter;
        if (o.adamw.v_floor) continue;
        const auto after = stored(m.parameter);
        const std::int64_t lost = std::ranges::count(after, 0.0f);
        EXPECT_LE(std::abs(elements(m.share, next) - lost), 1) << m.parameter;
    }
    const NamedNumbers numbers = moment_metrics(moments);
    ASSERT_EQ(numbers.size(), 2u);
    float worst = 0;
    for (const FlushedMoment& m : moments) {
        if (m.parameter.starts_with("model.layers.1.")) worst = std::max(worst, m.share);
    }
    EXPECT_EQ(number(numbers, "adam.v_flush_frac.1"), worst);
}

TEST(LayerMetrics, SecondMomentsThatRoundToZero) {
    StepOptions o = measured("smooth-swiglu");
    for (const bool floor : {false, true}) {
        o.adamw.v_floor = floor;
        for (const Dtype dtype : {Dtype::e5m2, Dtype::e4m3}) {
            for (const ScaleRounding rounding : {ScaleRounding::exact, ScaleRounding::pow2}) {
                SCOPED_TRACE(fmt::format("{} floor {} rounding {}", name(dtype), floor,
                                         static_cast<int>(rounding)));
                o.adamw.scale_rounding = rounding;
                o.recipe.states.v = dtype;
                expect_flushed(o);
            }
        }
        SCOPED_TRACE("roots");
        o.adamw.scale_rounding = ScaleRounding::exact;
        o.adamw.sqrt_v = true;
        o.recipe.states.v = Dtype::e4m3;
        expect_flushed(o);
        o.adamw.sqrt_v = false;
    }
}

TEST(LayerMetrics, WideSecondMomentsFlushNothing) {
    for (const char* recipe : {"bf16", "fp8-lm", "scalify"}) {
        Session s(measured(recipe));
        s.micro(test::random_batch(s.program.options(), 1));
        EXPECT_TRUE(s.program.flushed_moments().empty()) << recipe;
    }
}

// Gradients in E4M3, and those that are summed over micro-batches first. In the first step v' is
// proportional to g^2, under a scale that takes the largest to that of E5M2.
TEST(LayerMetrics, SecondMomentsOfQuantisedGradients) {
    StepOptions o = measured("smooth-swiglu");
    o.recipe.states.gradient = Dtype::e4m3;
    Session s(o);
    s.micro(test::random_batch(o, 1));
    // Of E4M3's codes only the smallest two lie that far below the largest.
    const std::string up = gradient_name("model.layers.1.mlp.up_proj.weight");
    std::vector<float> with_least = read_values(s.state(), up);
    with_least[0] =
        std::ranges::max(with_least, {}, [](float x) { return std::abs(x); }) * 0x1p-18f;
    write_values(s.state(), up, with_least);
    const std::vector<FlushedMoment> moments = s.program.flushed_moments();
    ASSERT_EQ(moments.size(), 14u);
    double most_lost = 0;
    for (const FlushedMoment& m : moments) {
        const std::vector<float> g = read_values(s.state(), gradient_name(m.parameter));
        double largest = 0, lost = 0, above = 0;
        for (const float x : g) largest = std::max(largest, double{x} * double{x});
        for (const float x : g) {
            above += x != 0;
            lost += x != 0 && double{x} * double{x} * 57344 / largest < 0x1p-17;
        }
        EXPECT_NEAR(m.share, lost / above, 1e-6) << m.parameter;
        most_lost = std::max(most_lost, lost);
    }
    EXPECT_GT(most_lost, 0) << "nothing to find";

    Session sums(o, /*accumulates=*/true);
    sums.micro(test::random_batch(o, 1));
    sums.micro(test::random_batch(o, 2), false);
    EXPECT_EQ(sums.program.flushed_moments().size(), 14u);
}

}  // namespace
}  // namespace octavo
