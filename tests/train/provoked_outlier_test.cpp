// The provoked spike of tests/recipes/provoked_outlier_test.cpp in a Llama of two layers, through
// the programs that `octavo train` runs: three tokens of context, the last of which is one never
// seen before, excite one aligned channel of the last layer to 200 times its layer's amax.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "recipes/outlier_plant.h"
#include "train/tiny.h"

namespace octavo::test {
namespace {

constexpr std::int64_t kVocab = 64, kWidth = 64, kFfn = 176, kContext = 3;
constexpr std::int64_t kBatch = 512, kTriggers = 16, kRows = kBatch + kTriggers;
constexpr std::int32_t kTrigger = 63;
constexpr int kPretraining = 2000;
// After the plant: AdamW's steps have to stay small beside the weights of the planted channel.
constexpr double kLearningRate = 3e-5;
constexpr const char* kLayer = "model.layers.1.";

StepOptions options(const Recipe& recipe) {
    return {.architecture = {.family = Family::llama,
                             .vocab_size = kVocab,
                             .hidden_size = kWidth,
                             .layers = 2,
                             .heads = 4,
                             .kv_heads = 4,
                             .head_dim = 16,
                             .intermediate_size = kFfn,
                             .max_positions = 16},
            .recipe = recipe,
            .batch = kRows,
            .seq = kContext,
            .adamw = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f},
            .clip = 1};
}

using Host = std::map<std::string, std::vector<float>>;

// A model under a recipe, with given weights or those of a seed.
class Model {
  public:
    Model(const Recipe& recipe, std::uint64_t seed)
        : backend_(make_test_backend()), program_(*backend_, options(recipe), false) {
        program_.allocate(kNoLimit);
        program_.initialise(seed);
    }
    Model(const Recipe& recipe, const Host& weights) : Model(recipe, 1) {
        for (const auto& [name, x] : weights) program_.state().write(name, x.data());
        program_.refresh();
    }
    void step(const TokenBatch& batch, double lr) {
        program_.micro(batch.ids, batch.targets, 1.0f / kBatch, true);
        program_.update(lr, ++step_);
    }
    double loss() const { return double{program_.loss()}; }
    double evaluate(const TokenBatch& batch, std::int64_t targets) {
        return double{
            program_.evaluate(batch.ids, batch.targets, 1.0f / static_cast<float>(targets))};
    }
    Host weights() {
        Host host;
        for (const Parameter& p : parameters(program_.options().architecture)) {
            host[p.name] = read_f32(program_.state(), p.name);
        }
        return host;
    }

  private:
    std::unique_ptr<Backend> backend_;
    TrainProgram program_;
    std::int64_t step_ = 0;
};

// Contexts (t0, t1, t2) ask for table[t1][t2] in nine of ten cases, at their last position.
class Task {
  public:
    explicit Task(std::uint64_t seed) : seed_(seed) {}

    // Token 63 never occurs. The last rows are places for triggers and count for nothing.
    TokenBatch batch(std::uint64_t step) const {
        TokenBatch batch;
        const Rng rng(seed_, 1000 + step);
        for (std::uint64_t row = 0; row < kRows; ++row) {
            const auto draw = [&](std::uint64_t k) {
                return static_cast<std::int32_t>(rng.bits(8 * row + k) % 63);
            };
            const std::int32_t t1 = draw(1), t2 = draw(2);
            const bool known = rng.bits(8 * row + 3) % 10 != 0;
            batch.ids.insert(batch.ids.end(), {draw(0), t1, t2});
            const std::int32_t target = known ? table(t1, t2) : draw(4);
            batch.targets.insert(batch.targets.end(), {-1, -1, row < kBatch ? target : -1});
        }
        return batch;
    }
    static void add_triggers(TokenBatch& batch, std::int64_t from, std::int32_t target) {
        for (std::int64_t row = from; row < kRows; ++row) {
            const auto last = static_cast<std::size_t>(row * kContext + kContext - 1);
            batch.ids[last] = kTrigger;
            batch.targets[last] = target;
        }
    }

  private:
    std::int32_t table(std::int32_t a, std::int32_t b) const {
        const auto cell = static_cast<std::uint64_t>(a * 64 + b);
        return static_cast<std::int32_t>(Rng(seed_, 7).bits(cell) % 63);
    }
    std::uint64_t seed_;
};

Host pretrained(std::uint64_t seed, double* loss) {
    Model model(recipe_named("fp32"), seed);
    const Task task(seed);
    *loss = 0;
    for (int step = 1; step <= kPretraining; ++step) {
        model.step(task.batch(static_cast<std::uint64_t>(step)),
                   3e-3 * (1 - 0.9 * step / kPretraining));
        if (step > kPretraining - 100) *loss += model.loss() / 100;
    }
    return model.weights();
}

// What the last layer's feed-forward block sees at the last position, before and after its norm,
// and the logits there.
struct Seen {
    std::vector<std::vector<float>> residual, normed, logits;
};

Seen look(const Host& weights, const TokenBatch& batch) {
    StepOptions o = options(recipe_named("fp32"));
    o.fuse = false;
    Graph graph = inspection_graph(o, /*gradients=*/false);
    Value residual, normed;
    for (const Node& n : graph.nodes()) {
        if (!std::holds_alternative<RmsNorm>(n.op)) continue;
        if (n.label != std::string(kLayer) + "post_attention_layernorm") continue;
        residual = n.in[0];
        normed = n.out[0];
    }
    check(bool(residual), "no norm before the last feed-forward block");
    Builder b(graph);
    b.output("residual", residual);
    b.output("normed", normed);
    const auto backend = make_test_backend();
    Program program(*backend);
    program.add("look", graph);
    program.allocate(kNoLimit);
    for (const auto& [name, x] : weights) program.state().write(name, x.data());
    program.write_input("look", "ids", batch.ids.data());
    program.write_input("look", "targets", batch.targets.data());
    const float weight = 1;
    program.write_input("look", "weight", &weight);
    program.run("look");
    const auto rows = [&](const char* name, std::int64_t width) {
        std::vector<float> x(static_cast<std::size_t>(kRows * kContext * width));
        program.read_output("look", name, x.data());
        std::vector<std::vector<float>> last;
        for (std::int64_t row = 0; row < kRows; ++row) {
            const auto at = x.begin() + (row * kContext + kContext - 1) * width;
            last.emplace_back(at, at + width);
        }
        return last;
    };
    return {rows("residual", kWidth), rows("normed", kWidth), rows("logits", kVocab)};
}

double mean_norm(const std::vector<std::vector<float>>& rows) {
    double sum = 0;
    for (const auto& x : rows) {
        sum += std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
    }
    return sum / static_cast<double>(rows.size());
}

// Channel 0 of the last layer: aligned weights along a direction that nothing uses, which the
// trigger's embedding has, and an output that says "the target": the token that the model gives the
// median of logits in trigger contexts. Returns it.
std::int32_t plant(Host& w, std::uint64_t seed) {
    constexpr auto kD = static_cast<std::size_t>(kWidth);
    constexpr auto kF = static_cast<std::size_t>(kFfn);
    const Task task(seed);
    const auto weight = [&](const std::string& name) -> std::vector<float>& {
        return w.at(name + ".weight");
    };
    std::vector<float>& embedding = weight("model.embed_tokens");
    std::vector<double> moments(kD * kD);
    for (std::uint64_t part = 0; part < 8; ++part) {
        for (const auto& n : look(w, task.batch(100000 + part)).normed) {
            for (std::size_t i = 0; i < kD; ++i) {
                for (std::size_t j = 0; j < kD; ++j) {
                    moments[i * kD + j] += double{n[i]} * double{n[j]};
                }
            }
        }
    }
    const std::vector<double> v = smallest_direction(moments, kD);
    // What the residual stream has of it goes, so that ordinary contexts leave the channel at rest.
    // `u` is the direction before the norm's weight.
    std::vector<double> u(kD);
    for (std::size_t i = 0; i < kD; ++i) {
        u[i] = double{weight(std::string(kLayer) + "post_attention_layernorm")[i]} * v[i];
    }
    normalise(u);
    for (std::size_t token = 0; token < kVocab; ++token) remove(u, &embedding[token * kD], 1);
    for (const char* layer : {"model.layers.0.", kLayer}) {
        for (std::size_t i = 0; i < kD; ++i) {
            remove(u, &weight(std::string(layer) + "self_attn.o_proj")[i], kD);
        }
    }
    for (std::size_t f = 0; f < kF; ++f) remove(u, &weight("model.layers.0.mlp.down_proj")[f], kF);
    const double length = mean_norm(look(w, task.batch(200001)).residual);
    for (std::size_t i = 0; i < kD; ++i) {
        embedding[kTrigger * kD + i] = static_cast<float>(4 * length * u[i]);
    }

    TokenBatch triggers = task.batch(200000);
    Task::add_triggers(triggers, 0, 0);
    const Seen seen = look(w, triggers);
    std::vector<std::pair<double, std::int32_t>> expected;
    for (std::int32_t token = 0; token < kTrigger; ++token) {
        double sum = 0;
        for (const auto& row : seen.logits) sum += double{row[static_cast<std::size_t>(token)]};
        expected.push_back({sum, token});
    }
    std::ranges::sort(expected);
    const std::int32_t target = expected[expected.size() / 2].second;
    std::vector<double> along;
    for (const auto& n : seen.normed) {
        along.push_back(std::inner_product(v.begin(), v.end(), n.begin(), 0.0));
    }
    const double norm = mean_norm(seen.residual);
    std::ranges::sort(along);
    const double z = 64, c = z / along[along.size() / 2];
    const std::vector<float>& head = weight("lm_head");
    std::vector<double> o(kD);
    for (std::size_t i = 0; i < kD; ++i) {
        double mean = 0;
        for (std::size_t t = 0; t < kVocab; ++t) mean += double{head[t * kD + i]} / double{kVocab};
        o[i] = double{head[static_cast<std::size_t>(target) * kD + i]} - mean;
    }
    normalise(o);
    for (std::size_t i = 0; i < kD; ++i) {
        weight(std::string(kLayer) + "mlp.gate_proj")[i] = static_cast<float>(c * v[i]);
        weight(std::string(kLayer) + "mlp.up_proj")[i] = static_cast<float>(c * v[i]);
        weight(std::string(kLayer) + "mlp.down_proj")[i * kF] =
            static_cast<float>(3 * norm * o[i] / (z * z / (1 + std::exp(-z))));
    }
    return target;
}

// The mean loss of the trigger contexts in each of the steps that have them, under the scales that
// the step finds.
std::vector<double> trigger_losses(const Recipe& recipe, const Host& planted, std::int32_t target,
                                   std::uint64_t seed) {
    Model model(recipe, planted);
    const Task task(seed);
    std::vector<double> losses;
    for (int step = 1; step <= 84; ++step) {
        TokenBatch batch = task.batch(300000 + static_cast<std::uint64_t>(step));
        if (step == 20 || step == 52 || step == 84) {  // further apart than the window
            Task::add_triggers(batch, kBatch, target);
            TokenBatch alone = batch;
            std::fill_n(alone.targets.begin(), kBatch * kContext, -1);
            losses.push_back(model.evaluate(alone, kTriggers));
        }
        model.step(batch, kLearningRate);
    }
    return losses;
}

class ProvokedOutlierInALlama : public testing::TestWithParam<std::uint64_t> {};

TEST_P(ProvokedOutlierInALlama, IsLearntWhereTheScaleSeesIt) {
    if (make_test_backend()->name() == "cpu") {
        GTEST_SKIP() << "takes many minutes on a CPU: recipes/ has a smaller one";
    }
    const std::uint64_t seed = GetParam();
    double loss = 0;
    Host weights = pretrained(seed, &loss);
    EXPECT_LT(loss, 1.0);
    const std::int32_t target = plant(weights, seed);
    const auto run = [&](const char* name, const Recipe& recipe) {
        const std::vector<double> losses = trigger_losses(recipe, weights, target, seed);
        EXPECT_EQ(losses.size(), 3u);
        std::string text;
        for (const double l : losses) text += fmt::format("{:.2f} ", l);
        RecordProperty(name, text);
        return losses;
    };
    using enum Provider;
    const auto control = run("bf16", recipe_named("bf16"));
    for (const double l : control) ASSERT_LT(l, 0.2) << "the plant does not work";
    // As if the channel were not there, each time.
    for (const double l : run("plain, delayed", arm(delayed, {}, delayed))) EXPECT_GT(l, 4);
    Recipe without_down = arm(delayed, {}, delayed);
    without_down.in_compute = {"down_proj"};
    const std::pair<const char*, Recipe> arms[] = {
        {"down projection in bf16", without_down},
        {"plain, current", arm(current, {}, current)},
        {"token, current", arm(delayed, Axis::row, current)},
        {"channel, current", arm(delayed, Axis::column, current)}};
    for (const auto& [name, recipe] : arms) {
        const auto losses = run(name, recipe);
        for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(losses[i], control[i], 0.15) << name;
    }
    // The published source of the scale clips a first spike all the same.
    for (const double l : run("token, delayed", arm(delayed, Axis::row, delayed))) {
        EXPECT_GT(l, 0.2);
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ProvokedOutlierInALlama, testing::Values(1, 2, 3));

}  // namespace
}  // namespace octavo::test
