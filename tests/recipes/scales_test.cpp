#include "recipes/scales.h"
#include "ops/delayed_quantise.h"

#include "base/dtype_traits.h"
#include "base/scale.h"
#include "io/scratch.h"
#include "ops/op_test.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;

double amax_of(const std::vector<float>& x) {
    double amax = 0;
    for (float v : x) amax = std::max(amax, std::abs(double{v}));
    return amax;
}

// The working copy is the master, quantised under the scale for its amax.
void expect_fresh(const State& state, const std::string& weight) {
    SCOPED_TRACE(weight);
    const std::vector<float> master = test::read_f32(state, weight);
    const test::HostTensor work = test::read_tensor(state.tensor("work.e4m3/" + weight));
    const Scale want =
        next_scale(static_cast<float>(amax_of(master)), Dtype::e4m3, ScaleRounding::pow2, 0, {});
    ASSERT_EQ(work.scales.size(), 1u);
    EXPECT_EQ(work.scales[0], want.scale);
    for (std::size_t i = 0; i < master.size(); ++i) {
        const auto code = from_f64<e4m3>(double{master[i]} * want.inv_scale);
        ASSERT_EQ(work.values[i], double{to_f32(code)} * want.scale) << "element " << i;
    }
}

TEST(WorkingWeights, AreTheMastersAfterEveryWrite) {
    Session s(test::tiny_options(Family::llama, "fp8-lm"));
    const std::string weight = "model.layers.1.mlp.down_proj.weight";
    expect_fresh(s.state(), weight);
    const auto before = test::read_f32(s.state(), weight);
    s.micro(test::random_batch(s.program.options(), 1));
    s.program.update(0.05, 1);
    EXPECT_NE(test::read_f32(s.state(), weight), before);
    for (const Parameter& p : parameters(s.program.options().architecture)) {
        if (s.state().contains("work.e4m3/" + p.name)) expect_fresh(s.state(), p.name);
    }
    const auto master = test::read_f32(s.state(), "lm_head.weight");
    const auto work = test::read_tensor(s.state().tensor("work.bf16/lm_head.weight"));
    for (std::size_t i = 0; i < master.size(); ++i) {
        ASSERT_EQ(work.values[i], double{to_f32(bf16(master[i]))});
    }
}

TEST(WorkingWeights, KeepTheirScaleWhenAmaxIsNoBasisForOne) {
    Session s(test::tiny_options(Family::llama, "fp8-lm"));
    const std::string name = "model.layers.0.mlp.up_proj.weight", work = "work.e4m3/" + name;
    const float scale = test::read_tensor(s.state().tensor(work)).scales[0];
    std::vector<float> zeros(test::read_f32(s.state(), name).size());
    s.state().write(name, zeros.data());
    s.micro(test::random_batch(s.program.options(), 1));
    s.program.update(0, 1);
    EXPECT_EQ(test::read_tensor(s.state().tensor(work)).scales[0], scale);
    EXPECT_EQ(test::read_tensor(s.state().tensor(work)).values[0], 0);
}

const std::string kSlot = "model.layers.1.mlp.down_proj.x";

std::int32_t counter_of(const State& state, const std::string& slot) {
    std::int32_t counter = 0;
    state.read(scale_counter_name(slot), &counter);
    return counter;
}

// The scale that the cast of `slot` works under when the last batch runs again.
float used_scale(Session& s, const std::string& slot) {
    Plan& plan = s.program.program().plan("micro");
    float used = 0;
    plan.run([&](std::int32_t i) {
        const Node& n = plan.graph().node(i);
        if (!std::holds_alternative<DelayedQuantise>(n.op)) return;
        // Operands of a source may come first.
        const Value history = n.in[history_operand(n.in.size(), 0)];
        if (plan.graph().value_name(history) != scale_history_name(slot)) return;
        used = static_cast<float>(test::read_tensor(plan.tensor(n.out[2])).values[0]);
    });
    return used;
}

TEST(DelayedScales, WindowsAdvanceWithTheStep) {
    Session s(test::tiny_options(Family::llama, "fp8-lm"), /*accumulates=*/true);
    const auto history = [&] { return test::read_f32(s.state(), scale_history_name(kSlot)); };
    EXPECT_EQ(history(), std::vector<float>(16));
    s.micro(test::random_batch(s.program.options(), 1));
    const float first = history()[0];
    EXPECT_GT(first, 0);
    // Slot 0 collects the micro-batches of a step.
    float largest = first;
    for (std::uint64_t seed = 2; seed < 6; ++seed) {
        s.micro(test::random_batch(s.program.options(), seed), /*first=*/false);
        EXPECT_GE(history()[0], largest);
        largest = history()[0];
    }
    EXPECT_EQ(counter_of(s.state(), kSlot), 0);
    s.program.update(1e-3, 1);
    EXPECT_EQ(counter_of(s.state(), kSlot), 1);
    EXPECT_EQ(history()[0], 0);
    EXPECT_EQ(history()[1], largest);
    EXPECT_EQ(test::read_f32(s.state(), scale_value_name(kSlot))[0],
              next_scale(largest, Dtype::e4m3, ScaleRounding::pow2, 0, {}).scale);
}

TEST(DelayedScales, AreReallyUsedOnceTheWindowIsFull) {
    Session s(test::tiny_options(Family::llama, "fp8-lm"));
    const test::TokenBatch batch = test::random_batch(s.program.options(), 1);
    const std::string dy = "model.layers.0.self_attn.k_proj.dy";
    for (int step = 1; step <= 40; ++step) {
        s.micro(batch);
        for (const std::string& slot : {kSlot, dy}) {
            EXPECT_EQ(counter_of(s.state(), slot), step - 1);
            // A scale that no amax would give tells the two ways apart.
            const float odd = 0x1p-20f;
            float kept = 0;
            s.state().read(scale_value_name(slot), &kept);
            s.state().write(scale_value_name(slot), &odd);
            EXPECT_EQ(used_scale(s, slot) == odd, step > 16) << slot << " in step " << step;
            s.state().write(scale_value_name(slot), &kept);
        }
        s.micro(batch);
        s.program.update(1e-3, step);
    }
}

// The published window of Smooth-SwiGLU's run, the micro-batches of one global batch: all of them
// are scaled by the largest amax of those of the batch before.
TEST(DelayedScales, AWindowOfOneStepIsOneGlobalBatch) {
    StepOptions o = test::tiny_options(Family::llama, "fp8-lm");
    o.recipe.window = 1;
    o.recipe.activation->rounding = ScaleRounding::exact;  // tells any two amaxes apart
    Session s(o, /*accumulates=*/true);
    const auto rule = [](float amax) {
        return next_scale(amax, Dtype::e4m3, ScaleRounding::exact, 0, {}).scale;
    };
    const std::string history = scale_history_name(kSlot);
    float before = 0;
    for (int step = 1; step <= 4; ++step) {
        float largest = 0;
        for (int i = 0; i < 3; ++i) {
            const float none = 0;
            s.state().write(history, &none);
            s.micro(test::random_batch(o, static_cast<std::uint64_t>(3 * step + i)), i == 0);
            largest = std::max(largest, test::read_f32(s.state(), history)[0]);
            const float scale = test::read_f32(s.state(), scale_value_name(kSlot))[0];
            if (step == 1) continue;  // just in time
            EXPECT_EQ(scale, rule(before)) << step;
            if (i == 0) {
                EXPECT_EQ(used_scale(s, kSlot), scale) << step;
            }
        }
        s.state().write(history, &largest);
        s.program.update(0.05, step);
        before = largest;
    }
}

TEST(DelayedScales, ABadStepScalesJustInTimeAgain) {
    Session s(test::tiny_options(Family::llama, "fp8-lm"));
    const test::TokenBatch batch = test::random_batch(s.program.options(), 1);
    for (int step = 1; step <= 18; ++step) {
        s.micro(batch);
        s.program.update(1e-3, step);
    }
    std::vector<float> history = test::read_f32(s.state(), scale_history_name(kSlot));
    history[0] = std::numeric_limits<float>::infinity();
    s.state().write(scale_history_name(kSlot), history.data());
    const std::string weight = "model.layers.0.mlp.up_proj.weight";
    const auto state_of = [&] {
        return std::vector{read_values(s.state(), weight),
                           read_values(s.state(), "adam.m/" + weight),
                           read_values(s.state(), "adam.v/" + weight)};
    };
    const auto before = state_of();
    const float scale = test::read_f32(s.state(), scale_value_name(kSlot))[0];
    EXPECT_TRUE(std::isnan(s.program.update(1e-3, 19)));
    EXPECT_EQ(state_of(), before) << "codes of infinities saturate, so that the loss tells nothing";
    EXPECT_EQ(test::read_f32(s.state(), scale_value_name(kSlot))[0], scale);
    EXPECT_EQ(counter_of(s.state(), kSlot), 0);
    EXPECT_EQ(test::read_f32(s.state(), scale_history_name(kSlot))[1], 0);
}

TEST(DelayedScales, AreStateAndSaved) {
    const Session s(test::tiny_options(Family::gpt2, "fp8-lm"));
    const auto slots = delayed_states(micro_graph(s.program.options(), false));
    ASSERT_EQ(slots.size(), 2u * (4 + 4));
    for (const DelayedState& d : slots) {
        for (const std::string& name :
             {scale_history_name(d.slot), scale_counter_name(d.slot), scale_value_name(d.slot)}) {
            EXPECT_TRUE(s.program.program().state().contains(name)) << name;
            EXPECT_TRUE(is_saved(name));
        }
    }
}

TEST(Scales, CurrentProviderUsesTheAmaxOfTheTensorItself) {
    const test::HostTensor x = test::tensor(Dtype::bf16, {4}, {0.5, -3, 1, 0});
    const auto q = test::run(
        [](Builder& b, const Values& in) {
            return Values{emit_quantise(b, {.dtype = Dtype::e5m2}, in[0], "x", 16).value};
        },
        {x})[0];
    EXPECT_EQ(q.scales[0], next_scale(3, Dtype::e5m2, ScaleRounding::pow2, 0, {}).scale);
    EXPECT_EQ(q.values, x.values);
}

TEST(Scales, CurrentOnesAreNanOfWhatIsNotFiniteAndOneOfZeros) {
    const auto scale_of = [](double v) {
        return test::run(
                   [](Builder& b, const Values& in) {
                       return Values{
                           emit_quantise(b, {.dtype = Dtype::e4m3}, in[0], "x", 16).value};
                   },
                   {test::tensor(Dtype::bf16, {3}, {0, v, 0})})[0]
            .scales[0];
    };
    EXPECT_EQ(scale_of(0), 1);
    EXPECT_TRUE(std::isnan(scale_of(INFINITY)));
    EXPECT_TRUE(std::isnan(scale_of(-INFINITY)));
}

TEST(Scales, RefuseWhatIsNotThere) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::f32, {4, 4}});
    const auto refused = [&](const Format& format) {
        return error_of([&] { emit_quantise(b, format, x, "up_proj.x", 16); });
    };
    for (const Provider provider : {Provider::delayed, Provider::recorded, Provider::predicted}) {
        EXPECT_EQ(refused({.granularity = Granularity::row, .provider = provider}),
                  "'up_proj.x': scales per row or block follow from the tensor itself, now");
    }
    for (const Provider provider : {Provider::recorded, Provider::predicted}) {
        EXPECT_EQ(refused({.provider = provider}),
                  "'up_proj.x': a recorded or predicted scale is for weights, which are quantised "
                  "when they are written");
    }
}

}  // namespace
}  // namespace octavo
