// S3 of scale propagation: networks whose values leave the range of f16 train there as in f32,
// without loss scaling (arXiv 2407.17353).
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/convert.h"
#include "base/dtype_traits.h"
#include "base/rng.h"
#include "recipes/recipe.h"
#include "runtime/program.h"
#include "train/tiny.h"

namespace octavo {
namespace {

constexpr std::int64_t kBatch = 128, kClasses = 10;
constexpr int kTests = 32;  // batches of fresh points

struct Size {
    std::int64_t inputs, hidden;
    int steps;
};

// A layer's weight and bias.
struct Layer {
    std::string name;
    std::int64_t in, out;
};

// Weights and biases N(0, sigma^2), SGD at 1e-3 on the host, on points around ten centres.
class Mlp {
  public:
    Mlp(const Recipe& recipe, const Size& size, double sigma)
        : program_(test::backend()), recipe_(recipe), inputs_(size.inputs) {
        Graph g;
        Builder b(g);
        const Value x = b.input("x", {Dtype::f32, {kBatch, size.inputs}});
        const Value targets = b.input("targets", {Dtype::i32, {kBatch}});
        const Value weight = b.input("weight", {Dtype::f32, {1}});
        const int exponent = floor_log2(sigma);
        Values parameters;
        Value h = b.cast(x, recipe.compute);
        const Layer layers[] = {{"w1", size.inputs, size.hidden},
                                {"w2", size.hidden, size.hidden},
                                {"w3", size.hidden, kClasses}};
        for (const Layer& l : layers) {
            const auto scope = b.scope(l.name);
            const Value w = b.one(Load{l.name, {Dtype::f32, {l.out, l.in}}, exponent}, {});
            const Value bias = b.one(Load{l.name + ".bias", {Dtype::f32, {l.out}}, exponent}, {});
            h = b.one(BiasAdd{}, {b.linear(h, w), bias});
            if (l.out != kClasses) h = b.one(Relu{}, {h});
            parameters.insert(parameters.end(), {w, bias});
        }
        const Value loss = b.emit(CrossEntropy{}, {h, targets, weight})[0];
        b.output("logits", b.cast(h, Dtype::f32));
        const Values gradients = differentiate(b, loss, parameters);
        for (std::size_t i = 0; i < gradients.size(); ++i) {
            const auto& load = std::get<Load>(g.node(g.producer(parameters[i])).op);
            names_.push_back(load.name);
            b.store("grad/" + load.name, gradients[i]);
        }
        const Graph step = apply(recipe, g, true);
        program_.add("step", step);
        program_.add("refresh", refresh_graph(recipe, step));
        program_.allocate(test::kNoLimit);
        for (const std::string& name : names_) {
            auto& values = weights_[name];
            values.resize(static_cast<std::size_t>(shape(name).elements()));
            const Rng rng(1, std::hash<std::string>{}(name));
            for (std::size_t i = 0; i < values.size(); ++i) {
                values[i] = static_cast<float>(sigma) * rng.normal(i);
            }
        }
        write();
    }

    // The share of right answers on fresh points after `steps`.
    double train(int steps) {
        double right = 0;
        const int last = steps + kTests;
        for (int step = 0; step < last; ++step) {
            right += run(step, step >= steps);
            if (step < steps) update();
        }
        return right / (kTests * kBatch);
    }

  private:
    const Shape& shape(const std::string& name) const {
        return program_.state().at("grad/" + name).type.shape;
    }

    void write() {
        for (const std::string& name : names_) {
            if (program_.state().contains(name)) {
                write_values(program_.state(), name, weights_[name]);
            }
        }
        program_.run("refresh");
    }

    double run(int step, bool test) {
        const auto seed = static_cast<std::uint64_t>(step);
        const auto inputs = static_cast<std::size_t>(inputs_);
        std::vector<float> x(kBatch * inputs);
        std::vector<std::int32_t> targets(kBatch);
        for (std::size_t i = 0; i < targets.size(); ++i) {
            targets[i] = static_cast<std::int32_t>(Rng(seed, 3).bits64(i) % kClasses);
            for (std::size_t j = 0; j < inputs; ++j) {
                const auto centre = static_cast<std::size_t>(targets[i]) * inputs + j;
                x[i * inputs + j] =
                    0.5f * Rng(7, 4).normal(centre) + Rng(seed, 5).normal(i * inputs + j);
            }
        }
        const float weight = 1.0f / kBatch;
        program_.write_input("step", "x", x.data());
        program_.write_input("step", "targets", targets.data());
        program_.write_input("step", "weight", &weight);
        program_.run("step");
        if (!test) return 0;
        const Graph& g = program_.plan("step").graph();
        const Dtype dtype = g.type(g.outputs()[0].value).dtype;
        std::vector<std::byte> raw(kBatch * kClasses * size_of(dtype));
        program_.read_output("step", "logits", raw.data());
        std::vector<float> logits(kBatch * kClasses);
        convert(raw, dtype, std::as_writable_bytes(std::span(logits)), Dtype::f32);
        double right = 0;
        for (std::size_t i = 0; i < targets.size(); ++i) {
            const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i * kClasses);
            right += std::max_element(row, row + kClasses) - row == targets[i];
        }
        return right;
    }

    void update() {
        for (const std::string& name : names_) {
            std::vector<float> gradient = test::read_f32(program_.state(), "grad/" + name);
            float scale = 1;
            if (recipe_.propagation) program_.state().read("grad.scale/" + name, &scale);
            auto& w = weights_[name];
            for (std::size_t i = 0; i < w.size(); ++i) w[i] -= 1e-3f * scale * gradient[i];
        }
        write();
    }

    Program program_;
    Recipe recipe_;
    std::int64_t inputs_;
    std::vector<std::string> names_;
    std::map<std::string, std::vector<float>> weights_;
};

// The shares of right answers of 4,096.
struct Shares {
    double f32, propagated, f16;
};

Shares shares(const Size& size, double sigma) {
    Recipe propagated = recipe_named("scalify");
    set_scalify_run(propagated, 1);
    const Recipe plain{.name = "plain", .compute = Dtype::f16};
    const auto of = [&](const Recipe& r) { return Mlp(r, size, sigma).train(size.steps); };
    const Shares s{of(recipe_named("fp32")), of(propagated), of(plain)};
    if (std::getenv("OCTAVO_TABLES")) {
        fmt::print("{}: f32 {:.4f}, scaled f16 {:.4f}, plain f16 {:.4f}\n", sigma, s.f32,
                   s.propagated, s.f16);
    }
    return s;
}

// Plain f16 breaks from the sigma on with which activations reach 65504: not to chance, for casts
// saturate, so that nothing becomes NaN.
void expect_right_answers(const Size& size, double sigma_of_overflow) {
    for (const double sigma : {0.5, 1.0, 2.0, 4.0, 8.0}) {
        SCOPED_TRACE(sigma);
        const Shares s = shares(size, sigma);
        EXPECT_GT(s.f32, sigma < 1 ? 0.75 : 0.85);
        EXPECT_NEAR(s.propagated, s.f32, 0.002);
        if (sigma < sigma_of_overflow) {
            EXPECT_NEAR(s.f16, s.f32, 0.005);
        } else {
            EXPECT_LT(s.f16, 0.4);
        }
    }
}

TEST(ScalifyMlp, TrainsInF16WhateverTheScaleOfWeights) { expect_right_answers({196, 256, 160}, 4); }

// As wide as the published net, for as many steps as an epoch of MNIST has: minutes.
TEST(ScalifyMlp, DISABLED_OfThePublishedWidth) { expect_right_answers({784, 1024, 469}, 2); }

}  // namespace
}  // namespace octavo
