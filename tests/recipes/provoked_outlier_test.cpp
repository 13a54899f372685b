// A first spike in a SwiGLU layer, provoked (arXiv 2409.12517): which quantisers of the down
// projection's input let the model learn from it.
//
// The model: three tokens, each embedded by its position, the sum through two blocks
// x += SwiGLU(RMSNorm(x)), a norm and a head. It learns a fixed random table[t0][t1]. Then one
// channel of the last block gets aligned weights that only contexts with a token never seen before
// excite, to 200 times the layer's amax; the products of the blocks are in FP8 from here on.
//
// With OCTAVO_CURVES=FILE the losses of seed 1 are drawn there: docs/recipes/provoked-outlier.svg.
#include <fstream>
#include <numeric>
#include <tuple>

#include "ops/op_test.h"
#include "passes/fuse.h"
#include "recipes/curves.h"
#include "recipes/outlier_plant.h"
#include "recipes/scales.h"

namespace octavo {
namespace {

using test::normalise, test::remove, test::smallest_direction;

constexpr std::int64_t kVocab = 64, kWidth = 64, kFfn = 176, kBatch = 512, kTriggers = 16;
constexpr std::int64_t kRows = kBatch + kTriggers;
constexpr int kTriggerToken = 63, kTriggerTarget = 5;

struct Weight {
    std::string name;
    Shape shape;
    double sigma;  // 0: ones
};

std::vector<Weight> all_weights() {
    const double in = 1 / std::sqrt(double{kWidth}), out = 1 / std::sqrt(4.0 * kFfn);
    std::vector<Weight> weights;
    for (int i = 0; i < 3; ++i) {
        weights.push_back({fmt::format("embed.{}", i), {kVocab, kWidth}, 1});
    }
    for (int i = 0; i < 2; ++i) {
        weights.push_back({fmt::format("block.{}.norm", i), {kWidth}, 0});
        weights.push_back({fmt::format("block.{}.gate", i), {kFfn, kWidth}, in});
        weights.push_back({fmt::format("block.{}.up", i), {kFfn, kWidth}, in});
        weights.push_back({fmt::format("block.{}.down", i), {kWidth, kFfn}, out});
    }
    weights.push_back({"norm", {kWidth}, 0});
    weights.push_back({"head", {kVocab, kWidth}, in});
    return weights;
}

using Host = std::map<std::string, std::vector<float>>;

Host initial_weights(std::uint64_t seed) {
    Host host;
    std::uint64_t stream = 1;
    for (const Weight& w : all_weights()) {
        std::vector<float>& x = host[w.name];
        x.assign(static_cast<std::size_t>(w.shape.elements()), 1);
        const Rng rng(seed, stream++);
        for (std::size_t i = 0; w.sigma > 0 && i < x.size(); ++i) {
            x[i] = static_cast<float>(w.sigma) * rng.normal(i);
        }
    }
    return host;
}

struct Forward {
    Graph graph;
    Values weights;
    Value loss, logits, residual, normed;  // the last block's input, before and after its norm
};

// The last product of a block: as the recipe has it, or left alone with its input in bf16.
enum class Down { quantised, bf16 };

Forward forward_part(const Recipe& recipe, Down down) {
    Forward f;
    Builder b(f.graph);
    const std::vector<Weight> names = all_weights();
    for (const Weight& w : names) f.weights.push_back(b.load(w.name, {Dtype::f32, w.shape}));
    std::size_t next = 0;
    const auto weight = [&] { return f.weights[next++]; };
    Value x;
    for (int i = 0; i < 3; ++i) {
        const Value ids = b.input(fmt::format("ids.{}", i), {Dtype::i32, {kRows}});
        const Value e = b.one(Embedding{}, {weight(), ids});
        x = x ? b.add(x, e) : e;
    }
    for (int i = 0; i < 2; ++i) {
        const auto block = b.scope(fmt::format("block.{}", i));
        f.residual = x;
        f.normed = b.emit(RmsNorm{}, {x, weight()})[0];
        const auto linear = [&](const char* name, Value in) {
            const auto scope = b.scope(name);
            return b.linear(in, weight());
        };
        const Value gate = linear("gate", f.normed), up = linear("up", f.normed);
        const Value h = b.one(SwiGlu{}, {gate, up});
        if (down == Down::quantised) {
            x = b.add(x, linear("down", h));
        } else {
            const auto scope = b.scope("down");
            const Value rounded = b.cast(b.cast(h, Dtype::bf16), Dtype::f32);
            const Matmul op{.trans_b = true, .kind = MatmulKind::plain};
            x = b.add(x, b.one(op, {rounded, weight()}));
        }
    }
    x = b.emit(RmsNorm{}, {x, weight()})[0];
    {
        const auto scope = b.scope("lm_head");
        f.logits = b.linear(x, weight());
    }
    const Value targets = b.input("targets", {Dtype::i32, {kRows}});
    f.loss =
        b.emit(CrossEntropy{}, {f.logits, targets, b.constant({Dtype::f32, {1}}, 1.0 / kBatch)})[0];
    Values values = f.weights;
    for (Value v : {f.loss, f.logits, f.residual, f.normed}) values.push_back(v);
    f.graph = rewrite_forward(recipe, std::move(f.graph), values);
    f.normed = values.back();
    f.residual = values[values.size() - 2];
    f.logits = values[values.size() - 3];
    f.loss = values[values.size() - 4];
    values.resize(f.weights.size());
    f.weights = values;
    return f;
}

// The model and its optimizer under one recipe.
class Model {
  public:
    Model(const Recipe& recipe, const Host& weights, Down down = Down::quantised) {
        Forward f = forward_part(recipe, down);
        Builder b(f.graph);
        const Values gradients = differentiate(b, f.loss, f.weights);
        b.set_phase(Phase::backward);
        const std::vector<Weight> names = all_weights();
        for (std::size_t i = 0; i < names.size(); ++i) {
            b.store("grad/" + names[i].name, gradients[i]);
        }
        b.output("loss", f.loss);
        b.output("logits", f.logits);
        b.output("residual", f.residual);
        b.output("normed", f.normed);
        const Graph micro = fuse(apply(recipe, f.graph, /*training=*/true));
        program_.add("micro", micro);
        program_.add("update", update(recipe, micro));
        program_.add("refresh", refresh_graph(recipe, micro));
        program_.allocate(std::int64_t{1} << 30);
        initialise_scales(program_.state());
        for (const auto& [name, x] : weights) write_values(program_.state(), name, x);
        program_.run("refresh");
    }

    // Contexts are rows of three tokens; targets below 0 do not count.
    double micro(const std::vector<std::array<int, 3>>& contexts, const std::vector<int>& targets) {
        for (int i = 0; i < 3; ++i) {
            std::vector<std::int32_t> ids;
            for (const auto& c : contexts) ids.push_back(c[static_cast<std::size_t>(i)]);
            program_.write_input("micro", fmt::format("ids.{}", i), ids.data());
        }
        program_.write_input("micro", "targets", targets.data());
        program_.run("micro");
        return output("loss", 1)[0];
    }
    void update(double lr) {
        ++step_;
        const float schedule[] = {static_cast<float>(lr),
                                  static_cast<float>(1 - std::pow(0.9, step_)),
                                  static_cast<float>(1 - std::pow(0.95, step_))};
        program_.write_input("update", "schedule", schedule);
        program_.write_input("update", "step", &step_);
        program_.run("update");
    }
    std::vector<float> output(std::string_view name, std::int64_t n) {
        std::vector<float> x(static_cast<std::size_t>(n));
        program_.read_output("micro", name, x.data());
        return x;
    }
    Host weights() {
        Host host;
        for (const Weight& w : all_weights()) {
            host[w.name].resize(static_cast<std::size_t>(w.shape.elements()));
            program_.state().read(w.name, host[w.name].data());
        }
        return host;
    }

  private:
    static Graph update(const Recipe& recipe, const Graph& micro) {
        Graph g;
        Builder b(g);
        b.set_phase(Phase::update);
        const std::vector<Weight> names = all_weights();
        Values gradients;
        for (const Weight& w : names) {
            gradients.push_back(b.load("grad/" + w.name, {Dtype::f32, w.shape}));
        }
        const Value factor = b.one(ClipFactor{1}, {b.one(GlobalNorm{}, gradients)});
        const Value schedule = b.input("schedule", {Dtype::f32, {3}});
        const Value step = b.input("step", {Dtype::i32, {1}});
        for (std::size_t i = 0; i < names.size(); ++i) {
            const Weight& w = names[i];
            const Type type{Dtype::f32, w.shape};
            const AdamW op{.weight_decay = w.shape.rank() == 2 ? 0.1f : 0.0f};
            const Values next =
                b.emit(op, {b.load(w.name, type), gradients[i], b.load("adam.m/" + w.name, type),
                            b.load("adam.v/" + w.name, type), factor, schedule, step});
            b.store(w.name, next[0]);
            b.store("adam.m/" + w.name, next[1]);
            b.store("adam.v/" + w.name, next[2]);
            for (const WorkingWeight& copy : working_weights(recipe, micro)) {
                if (copy.weight != w.name) continue;
                refresh_working_weight(b, recipe, copy, next[0], {Refresh::Kind::measured});
            }
        }
        for (const DelayedState& s : delayed_states(micro)) advance_delayed_state(b, recipe, s);
        return fuse(g);
    }

    Program program_{test::backend()};
    std::int32_t step_ = 0;
};

// Batches of the task, and what it asks for.
class Task {
  public:
    explicit Task(std::uint64_t seed) : seed_(seed) {}

    // Token 63 never occurs; targets come from the table in nine of ten cases.
    void batch(std::uint64_t step) {
        contexts.clear();
        targets.clear();
        const Rng rng(seed_, 1000 + step);
        for (std::uint64_t i = 0; i < kRows; ++i) {
            const auto draw = [&](std::uint64_t k) { return rng.bits(8 * i + k); };
            const int t0 = draw(0) % 63, t1 = draw(1) % 63, t2 = draw(2) % 63;
            contexts.push_back({t0, t1, t2});
            const bool known = draw(3) % 10 != 0;
            targets.push_back(known ? table(t0, t1) : static_cast<int>(draw(4) % 63));
        }
        // The places of triggers count for nothing in other steps.
        std::fill(targets.begin() + kBatch, targets.end(), -1);
    }
    void add_triggers(int target) {
        for (std::size_t i = kBatch; i < kRows; ++i) {
            contexts[i][0] = kTriggerToken;
            targets[i] = target;
        }
    }

    std::vector<std::array<int, 3>> contexts;
    std::vector<int> targets;

  private:
    int table(int t0, int t1) const {
        return static_cast<int>(Rng(seed_, 7).bits(static_cast<std::uint64_t>(t0 * 64 + t1)) % 63);
    }
    std::uint64_t seed_;
};

constexpr int kPretraining = 4000;

Host pretrained(std::uint64_t seed, double* loss) {
    Model model(recipe_named("fp32"), initial_weights(seed));
    Task task(seed);
    *loss = 0;
    for (int step = 1; step <= kPretraining; ++step) {
        task.batch(static_cast<std::uint64_t>(step));
        const double now = model.micro(task.contexts, task.targets);
        if (step > kPretraining - 100) *loss += now / 100;
        model.update(3e-3 * (1 - 0.9 * step / kPretraining));
    }
    return model.weights();
}

// Channel 0 of the last block: aligned weights along a direction that nothing uses, which the
// trigger's embedding has, and an output that says "the target".
void plant(Host& w, std::uint64_t seed) {
    constexpr auto kD = static_cast<std::size_t>(kWidth);
    Task task(seed);
    std::vector<double> moments(kD * kD);
    for (std::uint64_t part = 0; part < 8; ++part) {
        Model model(recipe_named("fp32"), w);
        task.batch(100000 + part);
        model.micro(task.contexts, task.targets);
        const std::vector<float> n = model.output("normed", kRows * kWidth);
        for (std::size_t row = 0; row < kBatch; ++row) {
            for (std::size_t i = 0; i < kD; ++i) {
                for (std::size_t j = 0; j < kD; ++j) {
                    moments[i * kD + j] += double{n[row * kD + i]} * double{n[row * kD + j]};
                }
            }
        }
    }
    const std::vector<double> v = smallest_direction(moments, kD);
    // What the residual stream has of it, which is little, goes: ordinary contexts leave the
    // channel at rest. `u` is the direction before the norm's weight.
    std::vector<double> u(kD);
    for (std::size_t i = 0; i < kD; ++i) u[i] = double{w.at("block.1.norm")[i]} * v[i];
    normalise(u);
    for (int i = 0; i < 3; ++i) {
        std::vector<float>& table = w.at(fmt::format("embed.{}", i));
        for (std::size_t row = 0; row < kVocab; ++row) remove(u, &table[row * kD], 1);
    }
    for (std::size_t f = 0; f < kFfn; ++f) remove(u, &w.at("block.0.down")[f], kFfn);
    for (std::size_t i = 0; i < kD; ++i) {
        w.at("embed.0")[kTriggerToken * kD + i] =
            static_cast<float>(4 * std::sqrt(double{kWidth}) * u[i]);
    }
    // Over many trigger contexts: all rows are some.
    Model model(recipe_named("fp32"), w);
    task.batch(200000);
    for (auto& c : task.contexts) c[0] = kTriggerToken;
    model.micro(task.contexts, task.targets);
    const std::vector<float> n = model.output("normed", kRows * kWidth);
    const std::vector<float> x = model.output("residual", kRows * kWidth);
    std::vector<double> along;
    double norm = 0;
    for (std::size_t row = 0; row < kRows; ++row) {
        double projection = 0, square = 0;
        for (std::size_t i = 0; i < kD; ++i) {
            projection += double{n[row * kD + i]} * v[i];
            square += double{x[row * kD + i]} * double{x[row * kD + i]};
        }
        along.push_back(projection);
        norm += std::sqrt(square) / double{kRows};
    }
    std::ranges::sort(along);
    const double z = 64, c = z / along[along.size() / 2];
    std::vector<double> o(kD);
    for (std::size_t i = 0; i < kD; ++i) {
        double mean = 0;
        for (std::size_t t = 0; t < kVocab; ++t) {
            mean += double{w.at("head")[t * kD + i]} / double{kVocab};
        }
        o[i] = double{w.at("head")[kTriggerTarget * kD + i]} - mean;
    }
    const double length = std::sqrt(std::inner_product(o.begin(), o.end(), o.begin(), 0.0));
    for (std::size_t i = 0; i < kD; ++i) {
        w.at("block.1.gate")[i] = w.at("block.1.up")[i] = static_cast<float>(c * v[i]);
        w.at("block.1.down")[i * static_cast<std::size_t>(kFfn)] =
            static_cast<float>(3 * norm * o[i] / (length * z * z / (1 + std::exp(-z))));
    }
}

constexpr int kSpikes[] = {20, 52, 84};  // further apart than the window

// Mean losses: of ordinary contexts in each step, of trigger contexts in those that have them.
struct Losses {
    std::vector<double> ordinary, triggers;
};

Losses losses_of(const Recipe& recipe, Down down, const Host& planted, std::uint64_t seed) {
    Model model(recipe, planted, down);
    Task task(seed);
    Losses losses;
    for (int step = 1; step <= 84; ++step) {
        task.batch(300000 + static_cast<std::uint64_t>(step));
        const bool spike = std::ranges::find(kSpikes, step) != std::end(kSpikes);
        if (spike) task.add_triggers(kTriggerTarget);
        double ordinary = model.micro(task.contexts, task.targets);
        if (spike) {
            const std::vector<float> logits = model.output("logits", kRows * kVocab);
            double loss = 0;
            for (std::size_t row = kBatch; row < kRows; ++row) {
                const auto of = std::span(logits).subspan(row * kVocab, kVocab);
                double sum = 0;
                for (const float l : of) {
                    sum += std::exp(double{l} - double{of[kTriggerTarget]});
                }
                loss += std::log(sum) / double{kTriggers};
            }
            losses.triggers.push_back(loss);
            ordinary -= loss * kTriggers / double{kBatch};
        }
        losses.ordinary.push_back(ordinary);
        model.update(3e-4);
    }
    return losses;
}

// Products of the blocks alone, in f32 but for their operands.
Recipe arm(Provider activation, std::optional<Axis> axis, Provider hidden) {
    Recipe r = test::arm(activation, axis, hidden);
    r.compute = Dtype::f32;
    return r;
}

// Of a name and a colour.
test::Curve curve(const char* name, const char* color, const Losses& losses) {
    test::Curve c{name, color, losses.ordinary, {}};
    for (std::size_t i = 0; i < std::size(kSpikes); ++i) {
        c.marks.push_back({kSpikes[i], losses.triggers[i]});
    }
    return c;
}

class ProvokedOutlier : public testing::TestWithParam<std::uint64_t> {};

TEST_P(ProvokedOutlier, IsLearntWhereTheScaleSeesIt) {
    const std::uint64_t seed = GetParam();
    double loss = 0;
    Host weights = pretrained(seed, &loss);
    EXPECT_GT(loss, 0.7);
    EXPECT_LT(loss, 0.9);
    plant(weights, seed);
    std::vector<std::pair<std::string, Losses>> arms;
    const auto run = [&](const char* name, const Recipe& recipe, Down down = Down::quantised) {
        const Losses losses = losses_of(recipe, down, weights, seed);
        std::string text;
        for (const double l : losses.triggers) text += fmt::format("{:.2f} ", l);
        RecordProperty(name, text);
        arms.push_back({name, losses});
        return losses.triggers;
    };
    using enum Provider;
    const auto control = run("f32", recipe_named("fp32"));
    for (const double l : control) ASSERT_LT(l, 0.8) << "the plant does not work";
    // As if the channel were not there, each time; what is learnt from one spike to the next is
    // learnt by others.
    const auto clipped = run("plain, delayed", arm(delayed, {}, delayed));
    EXPECT_GT(clipped[0], 4);
    EXPECT_GT(clipped[1], 4);
    EXPECT_GT(clipped[2], 3.5);
    const std::tuple<const char*, Recipe, Down> seeing[] = {
        {"token, current", arm(delayed, Axis::row, current), Down::quantised},
        {"channel, current", arm(delayed, Axis::column, current), Down::quantised},
        {"plain, current", arm(current, {}, current), Down::quantised},
        {"down input in bf16", arm(delayed, {}, delayed), Down::bf16}};
    for (const auto& [name, recipe, down] : seeing) {
        const auto losses = run(name, recipe, down);
        for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(losses[i], control[i], 0.15) << name;
    }
    // The published source of the scale clips a first spike all the same.
    const auto published = run("token, delayed", arm(delayed, Axis::row, delayed));
    EXPECT_GT(published[0], control[0] + 0.2);
    EXPECT_GT(published[1], control[1] + 0.05);
    const auto mean = [](const std::vector<double>& x) { return (x[0] + x[1] + x[2]) / 3; };
    EXPECT_GT(mean(published), mean(control) + 0.15);
    // The loss on ordinary contexts tells none of these apart.
    const auto late = [](const Losses& l) {
        return std::accumulate(l.ordinary.begin() + 20, l.ordinary.end(), 0.0) / 64;
    };
    for (const auto& [name, losses] : arms) {
        EXPECT_NEAR(late(losses), late(arms[0].second), 0.005) << name;
    }
    if (const char* path = std::getenv("OCTAVO_CURVES"); path && seed == 1) {
        std::ofstream(path) << test::curves_svg(
            {curve("plain FP8, scale of the past", "#d62728", arms[1].second),
             curve("Smooth-SwiGLU, scale of the past (as published)", "#e08a00", arms[6].second),
             curve("f32", "#1f77b4", arms[0].second),
             curve("Smooth-SwiGLU, current scale", "#2ca02c", arms[2].second)},
            "loss; lines: ordinary contexts, marks: contexts with the trigger", 90, 6);
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ProvokedOutlier, testing::Values(1, 2, 3));

}  // namespace
}  // namespace octavo
