#include "train/train_program.h"

#include <cmath>

#include "base/convert.h"

#include "io/scratch.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;
using test::tiny_options;

constexpr const char* kRecipes[] = {"fp32",      "bf16",          "fp8-lm", "moss",
                                    "blockwise", "smooth-swiglu", "scalify"};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::map<std::string, std::vector<std::byte>> everything_but_gradients(const State& state) {
    std::map<std::string, std::vector<std::byte>> all;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "grad" && !state_role(e.name).starts_with("scale.")) {
            all[e.name] = test::read_all(state, e.name);
        }
    }
    return all;
}

void poison(State& state, const std::string& name, std::size_t element, float value) {
    std::vector<float> values = test::read_f32(state, name);
    values[element] = value;
    state.write(name, values.data());
}

// Until the loss of one batch is near zero, or 400 steps have gone.
void expect_memorises(StepOptions o) {
    o.batch = 8;
    o.seq = 64;
    o.architecture.hidden_size = 64;
    o.architecture.head_dim = 16;
    o.architecture.intermediate_size = 192;
    o.adamw.weight_decay = 0;
    Session s(o);
    const test::TokenBatch batch = test::random_batch(o, 1);
    const float first = s.micro(batch);
    EXPECT_NEAR(first, std::log(64.0), 0.1);
    float loss = first;
    int step = 0;
    while (loss > 0.05f && step < 400) {
        s.program.update(4e-3, ++step);
        loss = s.micro(batch);
    }
    EXPECT_LE(loss, 0.05f) << "after " << step << " steps";
}

TEST(TrainProgram, MemorisesABatch) {
    for (const char* recipe : kRecipes) {
        SCOPED_TRACE(recipe);
        expect_memorises(tiny_options(Family::llama, recipe));
    }
}

constexpr StateFormats kNarrow[] = {{Dtype::bf16, Dtype::bf16, Dtype::bf16, Dtype::bf16},
                                    {Dtype::bf16, Dtype::bf16, Dtype::e4m3, Dtype::f16},
                                    {Dtype::f32, Dtype::bf16, Dtype::e4m3, Dtype::e5m2},
                                    {Dtype::f16, Dtype::e4m3, Dtype::e4m3, Dtype::f16},
                                    {Dtype::f32, Dtype::f32, kExpandedMoment, kExpandedMoment},
                                    {Dtype::f16, Dtype::e4m3, kExpandedMoment, Dtype::e5m2}};

TEST(TrainProgram, MemorisesABatchWithNarrowStates) {
    for (const char* recipe : {"bf16", "fp8-lm"}) {
        for (const StateFormats& states : kNarrow) {
            SCOPED_TRACE(fmt::format("{} {} {} {}", recipe, name(states.master), name(states.m),
                                     name(states.v)));
            StepOptions o = tiny_options(Family::llama, recipe);
            o.recipe.states = states;
            expect_memorises(o);
        }
    }
}

TEST(TrainProgram, NarrowStatesTakeTheBytesTheySay) {
    StepOptions o = tiny_options(Family::llama, "fp8-lm");
    o.recipe.states = kNarrow[1];
    Session s(o);
    const auto dtype = [&](const std::string& name) { return s.state().at(name).type.dtype; };
    const std::string linear = "model.layers.0.mlp.up_proj.weight", table = "lm_head.weight";
    EXPECT_EQ(dtype(linear), Dtype::bf16);
    EXPECT_EQ(dtype("work.e4m3/" + linear), Dtype::e4m3);
    EXPECT_EQ(dtype("grad/" + linear), Dtype::bf16);
    EXPECT_EQ(dtype("adam.m/" + linear), Dtype::e4m3);
    EXPECT_EQ(dtype("adam.v/" + linear), Dtype::f16);
    // Embedding and head are their own working copies; sums of rarely touched rows stay in f32.
    EXPECT_EQ(dtype(table), Dtype::bf16);
    EXPECT_FALSE(s.state().contains("work.bf16/" + table));
    EXPECT_EQ(dtype("grad/" + table), Dtype::f32);
    EXPECT_EQ(dtype("adam.m/" + table), Dtype::bf16);
    EXPECT_EQ(dtype("model.norm.weight"), Dtype::f32);
    EXPECT_EQ(dtype("adam.v/model.norm.weight"), Dtype::f32);
}

// Two bytes of codes and twice three floats for 128 of them, instead of eight bytes.
TEST(TrainProgram, ExpandedMomentsTakeTheBytesTheySay) {
    for (const char* recipe : kRecipes) {
        SCOPED_TRACE(recipe);
        StepOptions o = tiny_options(Family::llama, recipe);
        o.recipe.states.m = o.recipe.states.v = kExpandedMoment;
        Session s(o);
        const auto bytes = linear_state_bytes(s.program);
        const double sum = bytes.at("adam.m") + bytes.at("adam.v");
        EXPECT_GE(sum, 2 * (1 + 12.0 / 128));
        EXPECT_LE(sum, 2.22);  // parts of small tensors are padded
        EXPECT_EQ(s.state().at("adam.m/lm_head.weight").type.dtype, Dtype::bf16);
    }
}

// A bf16 master alone, rounded to nearest, would not move by steps below half a quantum.
TEST(TrainProgram, SmallStepsMoveABf16Master) {
    StepOptions o = tiny_options(Family::llama, "bf16");
    o.adamw.weight_decay = 0;
    std::map<Dtype, double> moved;
    for (const Dtype master : {Dtype::f32, Dtype::bf16}) {
        o.recipe.states.master = master;
        Session s(o);
        const test::TokenBatch batch = test::random_batch(o, 1);
        const std::string name = "model.layers.0.mlp.up_proj.weight";
        const auto weights = [&] {
            std::vector<std::byte> codes(
                static_cast<std::size_t>(data_bytes(s.state().at(name).type)));
            s.state().read(name, codes.data());
            std::vector<float> values(codes.size() / size_of(master));
            convert(codes, master, std::as_writable_bytes(std::span(values)), Dtype::f32);
            return values;
        };
        const auto before = weights();
        s.micro(batch);  // one gradient again and again: every step goes the same way
        for (int step = 1; step <= 100; ++step) s.program.update(1e-6, step);
        const auto after = weights();
        double sum = 0;
        for (std::size_t i = 0; i < before.size(); ++i) {
            sum += std::abs(static_cast<double>(after[i]) - static_cast<double>(before[i]));
        }
        moved[master] = sum / static_cast<double>(before.size());
    }
    EXPECT_NEAR(moved[Dtype::f32], 1e-4, 1e-5);
    // Rounding adds noise to |moved|: less than the quantum of these weights, about 1e-4.
    EXPECT_GT(moved[Dtype::bf16], 0.8e-4);
    EXPECT_LT(moved[Dtype::bf16], 2e-4);
}

TEST(TrainProgram, InitialisesWeightsFromTheSeed) {
    Session s(tiny_options(Family::llama, "fp32"));
    for (const Parameter& p : parameters(s.program.options().architecture)) {
        EXPECT_EQ(test::read_f32(s.state(), p.name), initial_values(p, 1)) << p.name;
    }
}

TEST(TrainProgram, EvaluatesTheLossItTrains) {
    for (const char* recipe : {"fp32", "bf16"}) {
        Session s(tiny_options(Family::qwen3, recipe));
        const test::TokenBatch batch = test::random_batch(s.program.options(), 1);
        const float loss = s.micro(batch);
        const float weight = 1.0f / static_cast<float>(batch.ids.size());
        EXPECT_NEAR(s.program.evaluate(batch.ids, batch.targets, weight), loss, 1e-6 * loss);
    }
}

TEST(TrainProgram, GradientsOfMicroBatchesAddUp) {
    for (const Family family : {Family::llama, Family::gpt2}) {
        Session s(tiny_options(family, "fp32"), /*accumulates=*/true);
        const auto first = test::random_batch(s.program.options(), 1);
        const auto second = test::random_batch(s.program.options(), 2);
        std::map<std::string, std::vector<float>> want;
        const auto names = parameters(s.program.options().architecture);
        for (const auto* batch : {&first, &second}) {
            s.micro(*batch);
            for (const Parameter& p : names) {
                const auto grad = test::read_f32(s.state(), gradient_name(p.name));
                auto& sum = want[p.name];
                sum.resize(grad.size());
                for (std::size_t i = 0; i < grad.size(); ++i) sum[i] += grad[i];
            }
        }
        s.micro(first);
        s.micro(second, /*first=*/false);
        for (const Parameter& p : names) {
            const auto got = test::read_f32(s.state(), gradient_name(p.name));
            float largest = 0;
            for (float g : got) largest = std::max(largest, std::abs(g));
            EXPECT_GT(largest, 0) << p.name;
            for (std::size_t i = 0; i < got.size(); ++i) {
                ASSERT_NEAR(got[i], want[p.name][i], 1e-5f * largest) << p.name << " " << i;
            }
        }
    }
}

TEST(TrainProgram, ANonFiniteGradientChangesNothing) {
    for (const char* recipe : kRecipes) {
        for (const float bad : {kNan, std::numeric_limits<float>::infinity()}) {
            SCOPED_TRACE(recipe);
            Session s(tiny_options(Family::llama, recipe));
            const test::TokenBatch batch = test::random_batch(s.program.options(), 1);
            for (int step = 1; step <= 2; ++step) {
                s.micro(batch);
                s.program.update(1e-3, step);
            }
            s.micro(batch);
            poison(s.state(), "grad/model.layers.1.mlp.up_proj.weight", 7, bad);
            const auto before = everything_but_gradients(s.state());
            EXPECT_FALSE(std::isfinite(s.program.update(1e-3, 3)));
            const auto after = everything_but_gradients(s.state());
            for (const auto& [name, bytes] : before) {
                EXPECT_TRUE(after.at(name) == bytes) << name << " changed";
            }
            EXPECT_TRUE(before.contains("adam.v/model.norm.weight"));
        }
    }
}

TEST(TrainProgram, ANonFiniteLossChangesNothing) {
    for (const float bad : {kNan, std::numeric_limits<float>::infinity()}) {
        Session s(tiny_options(Family::llama, "bf16"));
        s.micro(test::random_batch(s.program.options(), 1));
        s.state().write(kLossName, &bad);
        const auto before = everything_but_gradients(s.state());
        EXPECT_TRUE(std::isnan(s.program.update(1e-3, 1)));
        for (const auto& [name, bytes] : everything_but_gradients(s.state())) {
            EXPECT_TRUE(before.at(name) == bytes) << name << " changed";
        }
    }
}

TEST(TrainProgram, ANonFiniteGradientChangesNoNarrowStateEither) {
    for (StateFormats states : kNarrow) {
        states.gradient = Dtype::f32;
        StepOptions o = tiny_options(Family::llama, "fp8-lm");
        o.recipe.states = states;
        Session s(o);
        s.micro(test::random_batch(o, 1));
        s.program.update(1e-3, 1);
        poison(s.state(), "grad/model.layers.1.mlp.up_proj.weight", 7, kNan);
        const auto before = everything_but_gradients(s.state());
        EXPECT_FALSE(std::isfinite(s.program.update(1e-3, 2)));
        for (const auto& [name, bytes] : everything_but_gradients(s.state())) {
            EXPECT_TRUE(before.at(name) == bytes) << name << " changed";
        }
    }
}

TEST(TrainProgram, FindsTheBrokenWeight) {
    for (const char* recipe : kRecipes) {
        SCOPED_TRACE(recipe);
        Session s(tiny_options(Family::llama, recipe));
        const test::TokenBatch batch = test::random_batch(s.program.options(), 1);
        s.micro(batch);
        EXPECT_EQ(s.program.find_non_finite(), std::nullopt);
        const std::string name = "model.layers.1.mlp.up_proj.weight";
        poison(s.state(), name, 3, kNan);
        s.program.refresh();
        EXPECT_TRUE(std::isnan(s.micro(batch)));
        const auto found = s.program.find_non_finite();
        ASSERT_TRUE(found);
        EXPECT_TRUE(contains(found->tensor, name));
        EXPECT_EQ(found->op, "load");
        EXPECT_GE(found->count, 1);
    }
}

TEST(TrainProgram, FindsTheOpThatOverflows) {
    Session s(tiny_options(Family::llama, "fp32"), /*accumulates=*/true);
    const test::TokenBatch batch = test::random_batch(s.program.options(), 1);
    const std::string name = "model.layers.1.mlp.up_proj.weight";
    std::vector<float> huge(test::read_f32(s.state(), name).size(), 3e38f);
    s.state().write(name, huge.data());
    s.micro(batch);
    s.micro(batch, /*first=*/false);
    const auto found = s.program.find_non_finite();
    ASSERT_TRUE(found);
    EXPECT_TRUE(contains(found->tensor, "matmul of model.layers.1.mlp.up_proj"));
    EXPECT_EQ(found->op, "matmul");
}

TEST(TrainProgram, ChecksWhatItIsGiven) {
    StepOptions o = tiny_options(Family::llama, "fp32");
    {
        Session s(o);
        const std::vector<std::int32_t> ids(32), few(31);
        EXPECT_EQ(error_of([&] { s.program.micro(ids, few, 1, true); }),
                  "a micro-batch has 32 tokens, got 32 ids and 31 targets");
    }
    o.seq = 129;
    const auto backend = test::make_test_backend();
    EXPECT_TRUE(contains(error_of([&] { TrainProgram(*backend, o, false); }),
                         "train.seq = 129 is longer than the model's 128 positions"));
}

TEST(TrainProgram, CountsFlops) {
    // Per token: 6 per weight of the products, 6 layers heads head_dim seq for attention.
    const double linears = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 96), head = 64 * 32;
    EXPECT_EQ(flops_per_token(test::tiny(Family::llama), 16),
              6 * (linears + head) + 6 * 2 * 32 * 16);
    EXPECT_EQ(flops_per_token(test::tiny(Family::gpt2), 16),
              6 * (2 * (4 * 32 * 32 + 2 * 32 * 96) + 64 * 32) + 6 * 2 * 32 * 16);
}

}  // namespace
}  // namespace octavo
