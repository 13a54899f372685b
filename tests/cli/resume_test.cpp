// Interrupted runs, by request and by force, end up where an uninterrupted run does: the same
// losses, measured casts and bytes of State, for every recipe. `ctest -L gpu` runs variants and all
// that GoOnExactly on a GPU, too.
#include <algorithm>
#include <cmath>
#include <random>

#include "cli/program.h"
#include "report/metrics.h"

namespace octavo::test {
namespace {

class Resume : public Workspace {
  protected:
    void expect_same_run(const std::string& a, const std::string& b) const {
        const auto x = read_metrics(folder_ / a / "metrics.jsonl").steps;
        const auto y = read_metrics(folder_ / b / "metrics.jsonl").steps;
        ASSERT_EQ(x.size(), 24u);
        ASSERT_EQ(y.size(), 24u);
        for (std::size_t i = 0; i < x.size(); ++i) {
            EXPECT_EQ(x[i].step, y[i].step);
            EXPECT_EQ(x[i].tokens, y[i].tokens);
            EXPECT_EQ(x[i].loss, y[i].loss) << "step " << x[i].step;
            EXPECT_EQ(x[i].grad_norm, y[i].grad_norm) << "step " << x[i].step;
            EXPECT_EQ(x[i].held_out_loss, y[i].held_out_loss) << "step " << x[i].step;
        }
        EXPECT_EQ(slurp(folder_ / a / "scales.jsonl"), slurp(folder_ / b / "scales.jsonl"));
        int compared = 0;
        const auto last = folder_ / a / "checkpoints" / "step_0000024";
        for (const auto& entry : std::filesystem::directory_iterator(last)) {
            if (entry.path().extension() != ".safetensors") continue;
            const auto twin =
                folder_ / b / "checkpoints" / "step_0000024" / entry.path().filename();
            EXPECT_TRUE(slurp(entry.path()) == slurp(twin)) << entry.path().filename();
            ++compared;
        }
        EXPECT_EQ(compared, 2);
    }
};

class ResumeRecipe : public Resume, public testing::WithParamInterface<const char*> {};

TEST_P(ResumeRecipe, StoppedRunsGoOnExactly) {
    const std::string recipe = GetParam();
    ASSERT_EQ(run(train("whole", recipe)).exit_code, 0);
    // 7 is no multiple of checkpoint.every; 19 lies past the just-in-time steps of delayed scales.
    const Finished first = run(train("parts", recipe, {"--stop-after", "7"}));
    EXPECT_EQ(first.exit_code, 130) << first.text;
    const Finished second = run(train("parts", recipe, {"--stop-after", "12"}));
    EXPECT_EQ(second.exit_code, 130) << second.text;
    EXPECT_NE(second.text.find("at step 7"), std::string::npos) << second.text;
    EXPECT_EQ(run(train("parts", recipe)).exit_code, 0);
    expect_same_run("whole", "parts");
}

TEST_P(ResumeRecipe, KilledRunsGoOnExactly) {
    const std::string recipe = GetParam();
    // Checkpoints at every step: most kills hit the writing of one.
    const std::vector<std::string> often{"--checkpoint.every", "1"};
    ASSERT_EQ(run(train("whole", recipe, often)).exit_code, 0);
    std::mt19937 random(static_cast<unsigned>(recipe.size()));
    int kills = 0;
    Finished last;
    for (int attempt = 0; attempt < 200; ++attempt) {
        const Process process(train("killed", recipe, often), folder_ / "log");
        // The first attempts die early, while data, lock and first checkpoint are set up.
        const unsigned most = attempt < 10 ? 300000u : 1500000u;
        if (attempt < 40) {
            usleep(static_cast<unsigned>(random() % most));
            process.send(SIGKILL);
        }
        last = process.wait();
        if (last.exit_code == 0) break;
        ASSERT_EQ(last.exit_code, 128 + SIGKILL) << last.text;
        ++kills;
    }
    EXPECT_EQ(last.exit_code, 0) << last.text;
    EXPECT_GE(kills, 3);
    expect_same_run("whole", "killed");
}

INSTANTIATE_TEST_SUITE_P(Recipes, ResumeRecipe,
                         testing::Values("fp32", "bf16", "fp8-lm", "moss", "blockwise",
                                         "smooth-swiglu", "scalify"),
                         [](const auto& param_info) {
                             std::string name = param_info.param;
                             std::erase(name, '-');
                             return name;
                         });

// Every recipe, with each of its ways to keep State.
struct Variant {
    const char* name;
    const char* recipe;
    std::vector<std::string> options;
};

void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

class ResumeVariant : public Resume, public testing::WithParamInterface<Variant> {
  protected:
    std::vector<std::string> variant(const std::string& dir,
                                     std::vector<std::string> more = {}) const {
        more.insert(more.begin(), GetParam().options.begin(), GetParam().options.end());
        return train(dir, GetParam().recipe, more);
    }
};

TEST_P(ResumeVariant, EqualRunsAndKilledOnesEndInTheSameBytes) {
    // A checkpoint at every step, so that a kill may hit the writing of one, and steps take long
    // enough to be caught.
    const std::vector<std::string> often{"--checkpoint.every", "1"};
    for (const char* dir : {"whole", "again"}) {
        const Finished done = run(variant(dir, often));
        ASSERT_EQ(done.exit_code, 0) << done.text;
    }
    expect_same_run("whole", "again");

    const std::string_view name = GetParam().name;
    std::seed_seq seed(name.begin(), name.end());
    std::mt19937 random(seed);
    int kills = 0;
    for (int attempt = 0; attempt < 30 && kills < 2; ++attempt) {
        // Known to the run, whatever it had printed: "step_0000007".
        const std::string latest = slurp(folder_ / "killed" / "checkpoints" / "latest");
        const int from = latest.empty() ? 0 : std::atoi(latest.c_str() + 5);
        const int step = from + 1 + static_cast<int>(random() % 8);
        if (step >= 24) {  // as good as whole
            std::filesystem::remove_all(folder_ / "killed");
            kills = 0;
            continue;
        }
        const Process process(variant("killed", often), folder_ / "log");
        const bool seen = process.wait_for_text(std::to_string(step) + "/24 ", 500);
        process.send(SIGKILL);
        const Finished done = process.wait();
        ASSERT_TRUE(seen) << "step " << step << "\n" << done.text;
        if (done.exit_code == 128 + SIGKILL) {
            ++kills;
        } else {  // it was too quick
            ASSERT_EQ(done.exit_code, 0) << done.text;
            std::filesystem::remove_all(folder_ / "killed");
            kills = 0;
        }
    }
    ASSERT_EQ(kills, 2);
    const Finished done = run(variant("killed", often));
    ASSERT_EQ(done.exit_code, 0) << done.text;
    expect_same_run("whole", "killed");
}

// Losses of the same steps on two backends, relative. Demo models of 24 steps ended 0.2 % apart
// (docs/performance.md); weights that were not taken over would be beyond 10 %.
constexpr double kBackendsDiffer = 0.01;

// What one backend has written, the other goes on from, with the state that it would have itself.
TEST_P(ResumeVariant, CheckpointsGoFromBackendToBackend) {
    if (!on_cuda()) GTEST_SKIP() << "for a GPU: OCTAVO_TEST_BACKEND=cuda";
    const auto on = [&](const std::string& dir, const std::string& backend, const char* steps) {
        return run(variant(dir, {"--runtime.backend", backend, "--stop-after", steps}));
    };
    ASSERT_EQ(on("whole", "cuda", "0").exit_code, 0);
    const auto whole = read_metrics(folder_ / "whole" / "metrics.jsonl").steps;
    ASSERT_EQ(whole.size(), 24u);
    for (const bool from_cpu : {true, false}) {
        const std::string dir = from_cpu ? "from-cpu" : "from-cuda";
        int done_steps = 0;
        bool cpu = from_cpu;
        for (const char* steps : {"8", "9", "0"}) {
            const Finished done = on(dir, cpu ? "cpu" : "cuda", steps);
            ASSERT_EQ(done.exit_code, std::string(steps) == "0" ? 0 : 130) << done.text;
            if (done_steps > 0) {
                EXPECT_NE(done.text.find("at step " + std::to_string(done_steps)),
                          std::string::npos)
                    << done.text;
            }
            EXPECT_EQ(done.text.find("converted"), std::string::npos) << done.text;
            EXPECT_EQ(done.text.find("measured anew"), std::string::npos) << done.text;
            done_steps += std::atoi(steps);
            cpu = !cpu;
        }
        const auto moved = read_metrics(folder_ / dir / "metrics.jsonl").steps;
        ASSERT_EQ(moved.size(), 24u);
        for (std::size_t i = 0; i < moved.size(); ++i) {
            EXPECT_NEAR(moved[i].loss, whole[i].loss, kBackendsDiffer * whole[i].loss)
                << dir << ", step " << moved[i].step;
        }
        EXPECT_TRUE(std::isfinite(moved.back().grad_norm));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Variants, ResumeVariant,
    testing::Values(Variant{"fp32", "fp32", {}}, Variant{"bf16", "bf16", {}},
                    Variant{"fp8lm", "fp8-lm", {}},
                    Variant{"current", "fp8-lm", {"--recipe.activation_scale", "current"}},
                    Variant{"fp8lmO1", "fp8-lm", {"--recipe.level", "O1"}},
                    Variant{"fp8lmO2", "fp8-lm", {"--recipe.level", "O2"}},
                    Variant{"fp8lmO3", "fp8-lm", {"--recipe.level", "O3"}},
                    Variant{"smoothtoken", "smooth-swiglu", {"--smooth.granularity", "token"}},
                    Variant{"smoothchannel", "smooth-swiglu", {"--smooth.granularity", "channel"}},
                    Variant{"moss32", "moss", {}},
                    Variant{"moss128", "moss", {"--recipe.group", "128"}},
                    Variant{"blockwise", "blockwise", {}}, Variant{"scalify3", "scalify", {}},
                    Variant{"scalify4", "scalify", {"--recipe.run", "4"}},
                    Variant{"rescaled", "scalify", {"--recipe.state_rescale", "3"}}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

// Experts of a layer are one tensor of State and many of the checkpoint.
TEST_F(Resume, MixturesOfExpertsGoOnExactly) {
    for (const std::string recipe : {"bf16", "fp8-lm", "moss"}) {
        const std::vector<std::string> experts{"--model.family",
                                               "qwen3_moe",
                                               "--model.num_experts",
                                               "4",
                                               "--model.num_experts_per_tok",
                                               "2",
                                               "--model.moe_intermediate_size",
                                               "48",
                                               "--train.router_aux_loss_coef",
                                               "0.01"};
        const std::string whole = "whole-" + recipe, parts = "parts-" + recipe;
        const Finished once = run(train(whole, recipe, experts));
        ASSERT_EQ(once.exit_code, 0) << once.text;
        for (const auto& [steps, code] : {std::pair{"7", 130}, {"0", 0}}) {
            auto some = experts;
            some.insert(some.end(), {"--stop-after", steps});
            const Finished done = run(train(parts, recipe, some));
            ASSERT_EQ(done.exit_code, code) << done.text;
        }
        expect_same_run(whole, parts);
        const auto steps = read_metrics(folder_ / whole / "metrics.jsonl").steps;
        const auto load = std::ranges::find(steps[0].extra, "expert_load",
                                            &std::pair<std::string, double>::first);
        ASSERT_NE(load, steps[0].extra.end());
        EXPECT_GE(load->second, 1);
        const Finished text = run({"generate", path(whole), "--prompt", "line", "--tokens", "8"});
        EXPECT_EQ(text.exit_code, 0) << text.text;
    }
}

TEST_F(Resume, MixturesOfExpertsAreRefusedByScalify) {
    const Finished done =
        run(train("run", "scalify",
                  {"--model.family", "qwen3_moe", "--model.num_experts", "4",
                   "--model.num_experts_per_tok", "2", "--model.moe_intermediate_size", "48"}));
    EXPECT_EQ(done.exit_code, 2) << done.text;
    EXPECT_NE(done.text.find("no scales for mixtures of experts"), std::string::npos) << done.text;
}

TEST_F(Resume, NarrowStatesGoOnExactly) {
    const std::vector<std::string> states{
        "--optimizer.master", "bf16", "--optimizer.gradient", "bf16",
        "--optimizer.m",      "e4m3", "--optimizer.v",        "f16"};
    ASSERT_EQ(run(train("whole", "fp8-lm", states)).exit_code, 0);
    auto stopped = states;
    stopped.insert(stopped.end(), {"--stop-after", "7"});
    const Finished first = run(train("parts", "fp8-lm", stopped));
    EXPECT_EQ(first.exit_code, 130) << first.text;
    EXPECT_EQ(run(train("parts", "fp8-lm", states)).exit_code, 0);
    expect_same_run("whole", "parts");
    // The same weights are a Hugging Face folder in bf16.
    const auto checkpoint = folder_ / "whole" / "checkpoints" / "step_0000024";
    EXPECT_NE(slurp(checkpoint / "config.json").find("bfloat16"), std::string::npos);
}

TEST_F(Resume, MastersInE4m3GoOnExactly) {
    const std::vector<std::string> narrow{"--recipe.level", "O2", "--optimizer.master", "e4m3"};
    ASSERT_EQ(run(train("whole", "fp8-lm", narrow)).exit_code, 0);
    auto stopped = narrow;
    stopped.insert(stopped.end(), {"--stop-after", "7"});
    ASSERT_EQ(run(train("parts", "fp8-lm", stopped)).exit_code, 130);
    ASSERT_EQ(run(train("parts", "fp8-lm", narrow)).exit_code, 0);
    expect_same_run("whole", "parts");
    const Finished text = run({"generate", path("whole"), "--prompt", "line", "--tokens", "8"});
    EXPECT_EQ(text.exit_code, 0) << text.text;
}

TEST_F(Resume, ExpandedMomentsGoOnExactly) {
    const std::vector<std::string> expanded{"--optimizer.m", "expanded", "--optimizer.v",
                                            "expanded"};
    ASSERT_EQ(run(train("whole", "blockwise", expanded)).exit_code, 0);
    auto stopped = expanded;
    stopped.insert(stopped.end(), {"--stop-after", "7"});
    ASSERT_EQ(run(train("parts", "blockwise", stopped)).exit_code, 130);
    ASSERT_EQ(run(train("parts", "blockwise", expanded)).exit_code, 0);
    expect_same_run("whole", "parts");
    // Other formats go on from their values.
    ASSERT_EQ(run(train("wide", "blockwise", stopped)).exit_code, 130);
    const Finished wide = run(train("wide", "blockwise"));
    EXPECT_EQ(wide.exit_code, 0) << wide.text;
    EXPECT_NE(wide.text.find("adam.m/model"), std::string::npos) << wide.text;
}

// Per channel, with moments that are rounded at random, the second as its root.
TEST_F(Resume, SmoothedChannelsAndRandomMomentsGoOnExactly) {
    const std::vector<std::string> options{
        "--smooth.granularity",  "channel", "--smooth.export_window",      "5",
        "--optimizer.v_storage", "sqrt_v",  "--optimizer.moment_rounding", "stochastic"};
    ASSERT_EQ(run(train("whole", "smooth-swiglu", options)).exit_code, 0);
    auto stopped = options;
    stopped.insert(stopped.end(), {"--stop-after", "7"});
    ASSERT_EQ(run(train("parts", "smooth-swiglu", stopped)).exit_code, 130);
    // Roots are not taken for what they are not.
    const Finished refused =
        run(train("parts", "smooth-swiglu",
                  {"--smooth.granularity", "channel", "--smooth.export_window", "5"}));
    EXPECT_EQ(refused.exit_code, 1) << refused.text;
    EXPECT_NE(refused.text.find("adam.v/model"), std::string::npos) << refused.text;
    ASSERT_EQ(run(train("parts", "smooth-swiglu", options)).exit_code, 0);
    expect_same_run("whole", "parts");
}

// What is kept for an export is no part of training: a run may begin to keep it, or cease to.
TEST_F(Resume, WindowsOfChannelsComeAndGo) {
    const auto with = [&](const std::string& run_name, std::vector<std::string> more) {
        more.insert(more.end(), {"--smooth.granularity", "channel"});
        return run(train(run_name, "smooth-swiglu", more));
    };
    ASSERT_EQ(with("whole", {}).exit_code, 0);
    for (const bool first : {false, true}) {
        const std::string parts = first ? "ceases" : "begins";
        const std::vector<std::string> on{"--smooth.export_window", "3"}, off{};
        auto stopped = first ? on : off;
        stopped.insert(stopped.end(), {"--stop-after", "7"});
        ASSERT_EQ(with(parts, stopped).exit_code, 130);
        const Finished rest = with(parts, first ? off : on);
        ASSERT_EQ(rest.exit_code, 0) << rest.text;
        const auto x = read_metrics(folder_ / "whole" / "metrics.jsonl").steps;
        const auto y = read_metrics(folder_ / parts / "metrics.jsonl").steps;
        ASSERT_EQ(x.size(), y.size());
        for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i].loss, y[i].loss) << i;
        const Finished folded = run({"convert", path(parts), "--out", path(parts + "-folded"),
                                     "--as", "bf16", "--fold-channels", "checkpoint"});
        EXPECT_EQ(folded.exit_code, first ? 1 : 0) << folded.text;
    }
}

TEST_F(Resume, ChannelsOfTheStepBeforeGoOnExactly) {
    const std::vector<std::string> options{"--smooth.granularity", "channel",
                                           "--smooth.channel_update", "step"};
    ASSERT_EQ(run(train("whole", "smooth-swiglu", options)).exit_code, 0);
    auto stopped = options;
    stopped.insert(stopped.end(), {"--stop-after", "7"});
    ASSERT_EQ(run(train("parts", "smooth-swiglu", stopped)).exit_code, 130);
    const Finished refused =
        run(train("parts", "smooth-swiglu", {"--smooth.granularity", "channel"}));
    EXPECT_EQ(refused.exit_code, 1) << refused.text;
    EXPECT_NE(refused.text.find("smooth.factor/model"), std::string::npos) << refused.text;
    ASSERT_EQ(run(train("parts", "smooth-swiglu", options)).exit_code, 0);
    expect_same_run("whole", "parts");
}

// Random numbers depend on step and micro-batch, not on where a run was stopped.
TEST_F(Resume, OutputGradientsRoundedAtRandomGoOnExactly) {
    const std::vector<std::string> options{"--recipe.grad_rounding", "stochastic",
                                           "--train.grad_accum", "2"};
    ASSERT_EQ(run(train("whole", "smooth-swiglu", options)).exit_code, 0);
    for (const auto& [steps, code] : {std::pair{"7", 130}, {"12", 130}, {"0", 0}}) {
        auto some = options;
        some.insert(some.end(), {"--stop-after", steps});
        ASSERT_EQ(run(train("parts", "smooth-swiglu", some)).exit_code, code);
    }
    expect_same_run("whole", "parts");
    ASSERT_EQ(run(train("nearest", "smooth-swiglu", {"--train.grad_accum", "2"})).exit_code, 0);
    EXPECT_NE(read_metrics(folder_ / "whole" / "metrics.jsonl").steps.back().loss,
              read_metrics(folder_ / "nearest" / "metrics.jsonl").steps.back().loss);
}

// Across and between measured amaxes, at steps 5, 10, 15 and 20.
TEST_F(Resume, PredictedScalesGoOnExactly) {
    const std::vector<std::string> predicted{"--recipe.interval", "5", "--recipe.weight_scale",
                                             "predicted"};
    for (const std::string recipe : {"moss", "fp8-lm"}) {
        const std::string whole = "whole-" + recipe, parts = "parts-" + recipe;
        ASSERT_EQ(run(train(whole, recipe, predicted)).exit_code, 0);
        for (const auto& [steps, code] : {std::pair{"7", 130}, {"12", 130}, {"0", 0}}) {
            auto some = predicted;
            some.insert(some.end(), {"--stop-after", steps});
            const Finished done = run(train(parts, recipe, some));
            ASSERT_EQ(done.exit_code, code) << done.text;
            EXPECT_EQ(done.text.find("measured anew"), std::string::npos) << done.text;
        }
        expect_same_run(whole, parts);
    }
}

// A bound on the optimizer's steps is part of what was predicted with it.
TEST_F(Resume, AnotherBoundMeasuresTheScalesAnew) {
    const auto go_on = [&](std::vector<std::string> more) {
        more.insert(more.end(), {"--stop-after", "3"});
        const Finished done = run(train("run", "moss", more));
        EXPECT_EQ(done.exit_code, 130) << done.text;
        return done.text.find("scales of weights are measured anew") != std::string::npos;
    };
    EXPECT_FALSE(go_on({}));
    EXPECT_TRUE(go_on({"--recipe.bound", "paper"}));
    EXPECT_FALSE(go_on({"--recipe.bound", "paper"}));
    EXPECT_TRUE(go_on({"--train.beta2", "0.99"}));
    EXPECT_FALSE(go_on({"--train.beta2", "0.99", "--recipe.interval", "7"}));
}

// What a recipe needs beyond weights and moments is made from the weights, where it can be.
TEST_F(Resume, ARunGoesOnInRecipesWithoutDelayedScales) {
    const auto go_on = [&](const char* recipe, std::vector<std::string> more) {
        more.insert(more.end(), {"--stop-after", "3"});
        const Finished done = run(train("run", recipe, more));
        EXPECT_EQ(done.exit_code, 130) << done.text;
        return done.text.find("converted") != std::string::npos;
    };
    EXPECT_FALSE(go_on("bf16", {}));
    EXPECT_TRUE(go_on("moss", {}));
    EXPECT_TRUE(go_on("moss", {"--recipe.weight_scale", "measured"}));
    EXPECT_TRUE(go_on("moss", {"--recipe.weight_scale", "predicted"}));
    EXPECT_TRUE(go_on("blockwise", {}));
    EXPECT_TRUE(go_on("bf16", {}));
    EXPECT_FALSE(go_on("bf16", {}));
}

// All runs of scalify, with gradients of one micro-batch and sums of two.
TEST_F(Resume, PropagatedScalesGoOnExactly) {
    for (const std::string number : {"1", "3", "4"}) {
        for (const std::string grad_accum : {"1", "2"}) {
            const std::vector<std::string> options{"--recipe.run", number, "--train.grad_accum",
                                                   grad_accum};
            const std::string whole = "whole" + number + grad_accum,
                              parts = "parts" + number + grad_accum;
            ASSERT_EQ(run(train(whole, "scalify", options)).exit_code, 0);
            for (const auto& [steps, code] : {std::pair{"7", 130}, {"0", 0}}) {
                auto some = options;
                some.insert(some.end(), {"--stop-after", steps});
                const Finished done = run(train(parts, "scalify", some));
                ASSERT_EQ(done.exit_code, code) << done.text;
                EXPECT_EQ(done.text.find("converted"), std::string::npos) << done.text;
            }
            expect_same_run(whole, parts);
        }
    }
}

std::string exponents_of(const std::filesystem::path& checkpoint) {
    const std::string manifest = slurp(checkpoint / "checkpoint.json");
    const auto at = manifest.find("\"weight_exponents\"");
    return at == std::string::npos ? "" : manifest.substr(at, manifest.find('\n', at) - at);
}

// Stopped between two measurements of weights and moments, and at one. At this rate many weights
// leave the size that they had.
TEST_F(Resume, RescaledStatesGoOnExactly) {
    for (const std::string number : {"1", "3", "4"}) {
        const std::vector<std::string> options{
            "--recipe.run", number, "--train.lr", "3e-2", "--recipe.state_rescale", "5"};
        const std::string whole = "whole" + number, parts = "parts" + number;
        ASSERT_EQ(run(train(whole, "scalify", options)).exit_code, 0);
        for (const auto& [steps, code] : {std::pair{"7", 130}, {"8", 130}, {"0", 0}}) {
            auto some = options;
            some.insert(some.end(), {"--stop-after", steps});
            const Finished done = run(train(parts, "scalify", some));
            ASSERT_EQ(done.exit_code, code) << done.text;
            EXPECT_EQ(done.text.find("converted"), std::string::npos) << done.text;
        }
        expect_same_run(whole, parts);
        const std::string last = "/checkpoints/step_0000024";
        const std::string exponents = exponents_of(path(whole + last));
        EXPECT_NE(exponents.find(".weight="), std::string::npos) << exponents;
        EXPECT_EQ(exponents_of(path(parts + last)), exponents);
    }
}

// A run may begin to measure, and cease to; then scales stay where they are. Other recipes go on
// from the values.
TEST_F(Resume, RescalingBeginsAndEnds) {
    const auto go_on = [&](const char* recipe, const char* every) {
        std::vector<std::string> options{"--train.lr", "3e-2", "--stop-after", "4"};
        if (*every) options.insert(options.end(), {"--recipe.state_rescale", every});
        const Finished done = run(train("run", recipe, options));
        EXPECT_EQ(done.exit_code, 130) << done.text;
        return done.text.find("converted") != std::string::npos;
    };
    const auto exponents = [&](const std::string& step) {
        return exponents_of(path("run/checkpoints/step_00000" + step));
    };
    EXPECT_FALSE(go_on("scalify", ""));
    EXPECT_EQ(exponents("04"), "");
    EXPECT_FALSE(go_on("scalify", "2"));
    const std::string measured = exponents("08");
    EXPECT_NE(measured, "");
    EXPECT_FALSE(go_on("scalify", "0"));
    EXPECT_EQ(exponents("12"), measured);
    EXPECT_TRUE(go_on("bf16", ""));
    EXPECT_EQ(exponents("16"), "");
    EXPECT_TRUE(go_on("scalify", "2"));
    EXPECT_NE(exponents("20"), "");
    const auto steps = read_metrics(folder_ / "run" / "metrics.jsonl").steps;
    ASSERT_EQ(steps.size(), 20u);
    for (std::size_t i = 4; i < steps.size(); ++i) {
        EXPECT_LT(steps[i].loss, steps[0].loss) << steps[i].step;
    }
}

// Layers that stay in bf16 have other working weights and no delayed scales.
TEST_F(Resume, LayersInBf16GoOnExactly) {
    for (const std::string recipe : {"fp8-lm", "smooth-swiglu", "blockwise"}) {
        std::vector<std::string> options{"--recipe.bf16", "down_proj,layers.0"};
        if (recipe == "fp8-lm") options.insert(options.end(), {"--recipe.level", "O2"});
        const std::string whole = "whole-" + recipe, parts = "parts-" + recipe;
        const Finished once = run(train(whole, recipe, options));
        ASSERT_EQ(once.exit_code, 0) << once.text;
        EXPECT_NE(once.text.find("down_proj, layers.0 in bf16"), std::string::npos) << once.text;
        auto stopped = options;
        stopped.insert(stopped.end(), {"--stop-after", "7"});
        ASSERT_EQ(run(train(parts, recipe, stopped)).exit_code, 130);
        // Another list is another recipe; without delayed scales, all else follows from the
        // weights.
        const Finished other = run(train(parts, recipe, {"--recipe.bf16", "up_proj"}));
        if (recipe == "blockwise") {
            EXPECT_EQ(other.exit_code, 0) << other.text;
            EXPECT_NE(other.text.find("converted"), std::string::npos) << other.text;
        } else {
            EXPECT_EQ(other.exit_code, 1) << other.text;
            ASSERT_EQ(run(train(parts, recipe, options)).exit_code, 0);
            expect_same_run(whole, parts);
        }
        const Finished text = run({"generate", path(whole), "--prompt", "line", "--tokens", "8"});
        EXPECT_EQ(text.exit_code, 0) << text.text;
        const Finished export_ =
            run({"convert", path(whole), "--out", path("out-" + recipe), "--as", "fp8-tensor"});
        EXPECT_EQ(export_.exit_code, 0) << export_.text;
        EXPECT_NE(export_.text.find("recipe.bf16"), std::string::npos) << export_.text;
        EXPECT_NE(export_.text.find("model.layers.1.mlp.down_proj"), std::string::npos);
    }
}

class ResumeLevel : public Resume, public testing::WithParamInterface<const char*> {};

TEST_P(ResumeLevel, StoppedRunsGoOnExactly) {
    // Gradients of one micro-batch rest in e4m3, those of two in f32.
    for (const std::string grad_accum : {"1", "2"}) {
        const std::vector<std::string> level{"--recipe.level", GetParam(), "--train.grad_accum",
                                             grad_accum};
        const std::string whole = "whole" + grad_accum, parts = "parts" + grad_accum;
        ASSERT_EQ(run(train(whole, "fp8-lm", level)).exit_code, 0);
        for (const auto& [steps, code] : {std::pair{"7", 130}, {"12", 130}, {"0", 0}}) {
            auto some = level;
            some.insert(some.end(), {"--stop-after", steps});
            const Finished done = run(train(parts, "fp8-lm", some));
            ASSERT_EQ(done.exit_code, code) << done.text;
            EXPECT_EQ(done.text.find("converted"), std::string::npos) << done.text;
        }
        expect_same_run(whole, parts);
    }
}

TEST_P(ResumeLevel, TheCheckpointIsAModelThatGenerates) {
    ASSERT_EQ(run(train("run", "fp8-lm", {"--recipe.level", GetParam()})).exit_code, 0);
    const std::filesystem::path checkpoint = folder_ / "run" / "checkpoints" / "step_0000024";
    EXPECT_NE(slurp(checkpoint / "config.json").find("float32"), std::string::npos);
    std::string as_run, as_folder;
    for (const bool whole_run : {true, false}) {
        const Finished done = run({"generate", whole_run ? path("run") : checkpoint.string(),
                                   "--prompt", "line", "--tokens", "12"});
        EXPECT_EQ(done.exit_code, 0) << done.text;
        (whole_run ? as_run : as_folder) = done.text;
    }
    EXPECT_EQ(as_run, as_folder);
}

INSTANTIATE_TEST_SUITE_P(Levels, ResumeLevel, testing::Values("O1", "O2", "O3"),
                         [](const auto& level) { return std::string(level.param); });

TEST_F(Resume, AnotherLevelConvertsTheStates) {
    const auto at = [&](const char* level, const char* steps) {
        return run(train("run", "fp8-lm", {"--recipe.level", level, "--stop-after", steps}));
    };
    EXPECT_EQ(at("O0", "6").exit_code, 130);
    for (const char* level : {"O3", "O1", "O0"}) {
        const Finished done = at(level, "4");
        EXPECT_EQ(done.exit_code, 130) << done.text;
        EXPECT_NE(done.text.find("tensors converted to this run's formats"), std::string::npos)
            << done.text;
    }
    const Finished same = at("O0", "0");
    EXPECT_EQ(same.exit_code, 0) << same.text;
    EXPECT_EQ(same.text.find("converted"), std::string::npos) << same.text;
}

TEST_F(Resume, SignalsLeaveACheckpoint) {
    for (const int signal : {SIGINT, SIGTERM}) {
        const std::string dir = "run" + std::to_string(signal);
        const Process process(train(dir, "bf16", {"--train.steps", "1000000"}), folder_ / "log");
        ASSERT_TRUE(process.wait_for_text("/1000000")) << process.log();
        process.send(signal);
        const Finished done = process.wait();
        EXPECT_EQ(done.exit_code, 130) << done.text;
        EXPECT_NE(done.text.find("checkpoint written"), std::string::npos) << done.text;
        EXPECT_TRUE(std::filesystem::exists(folder_ / dir / "checkpoints" / "latest"));
        EXPECT_TRUE(std::filesystem::exists(folder_ / dir / "report.html"));
    }
}

TEST_F(Resume, AnotherRecipeIsRefused) {
    EXPECT_EQ(run(train("run", "bf16", {"--stop-after", "6"})).exit_code, 130);
    const Finished other = run(train("run", "fp8-lm"));
    EXPECT_EQ(other.exit_code, 1);
    EXPECT_NE(other.text.find("work.e4m3"), std::string::npos) << other.text;
    // The refusal costs nothing: the run goes on as it was.
    EXPECT_EQ(run(train("run", "bf16")).exit_code, 0);
}

TEST_F(Resume, OneProcessAtATime) {
    const Process first(train("run", "bf16", {"--train.steps", "1000000"}), folder_ / "first");
    ASSERT_TRUE(first.wait_for_text("/1000000")) << first.log();
    const Finished second = run(train("run", "bf16"));
    EXPECT_EQ(second.exit_code, 1);
    EXPECT_NE(second.text.find("in use"), std::string::npos) << second.text;
    first.send(SIGTERM);
    EXPECT_EQ(first.wait().exit_code, 130);
}

TEST_F(Resume, NeverDoesNotBuryACheckpoint) {
    EXPECT_EQ(run(train("run", "bf16", {"--stop-after", "6"})).exit_code, 130);
    const Finished anew = run(train("run", "bf16", {"--checkpoint.resume", "never"}));
    EXPECT_EQ(anew.exit_code, 1);
    EXPECT_NE(anew.text.find("Choose another run.dir"), std::string::npos) << anew.text;
    EXPECT_EQ(run(train("none", "bf16", {"--checkpoint.resume", "must"})).exit_code, 1);
}

}  // namespace
}  // namespace octavo::test
