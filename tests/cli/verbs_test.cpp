// Verbs that look, generate and report.
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "io/safetensors.h"

namespace octavo::test {
namespace {

class Verbs : public Workspace {
  protected:
    std::string expect_success(const std::vector<std::string>& args) const {
        const Finished done = run(args);
        EXPECT_EQ(done.exit_code, 0) << done.text;
        return done.text;
    }
    static void expect_text(const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in\n" << text;
    }
};

TEST_F(Verbs, InspectShowsARecipe) {
    const std::string graph =
        expect_success({"inspect", "graph", path("run.toml"), "--recipe", "fp8-lm"});
    expect_text(graph, "e4m3[2, 32, 32] x tensor (delayed)");
    expect_text(graph, "e4m3[64, 32] x tensor (recorded) = load()");
    expect_text(graph, "delayed_quantise");
    expect_text(graph, "'work.e4m3/model.layers.0.mlp.up_proj.weight'");
    expect_text(expect_success({"inspect", "graph", path("run.toml"), "--format", "dot"}),
                "digraph");
    expect_text(expect_success({"inspect", "plan", path("run.toml"), "--graph", "update"}),
                "adamw");
    const std::string memory = expect_success({"inspect", "memory", path("run.toml")});
    expect_text(memory, "activations");
    expect_text(memory, "adam.m");
    expect_text(memory, "total");
    expect_text(memory, "beside it, on the host");
}

TEST_F(Verbs, InspectShowsScalesOfBlocksAndPredictions) {
    const auto graph = [&](const std::string& recipe, const std::string& name) {
        return expect_success({"inspect", "graph", path("run.toml"), "--recipe", recipe,
                               "--train.grad_accum", "1", "--graph", name});
    };
    expect_text(graph("moss", "micro"), "e4m3[2, 32, 32] x micro(32) (current)");
    expect_text(graph("moss", "micro"), "e4m3[64, 32] x tensor (predicted) = load()");
    expect_text(expect_success(
                    {"inspect", "graph", path("run.toml"), "--recipe", "moss", "--format", "dot"}),
                "e4m3[64, 32] x tensor (predicted)\"]");
    expect_text(graph("blockwise", "micro"), "e4m3[2, 32, 32] x 1x128");
    expect_text(graph("blockwise", "micro"), "e4m3[32, 64] x 128x128");
    expect_text(graph("moss", "update"), "predict_amax");
    EXPECT_EQ(graph("moss", "update_measured").find("predict_amax"), std::string::npos);
    expect_text(expect_success({"inspect", "memory", path("run.toml"), "--recipe", "moss"}),
                "scale.bound");
    const Finished none = run({"inspect", "graph", path("run.toml"), "--recipe", "blockwise",
                               "--graph", "update_measured"});
    EXPECT_EQ(none.exit_code, 2);
    expect_text(none.text, "update_measured with predicted scales");
}

TEST_F(Verbs, SmoothSwiGluFromTrainingToFoldedChannels) {
    const std::string graph =
        expect_success({"inspect", "graph", path("run.toml"), "--recipe", "smooth-swiglu"});
    expect_text(graph, "smooth_swiglu(");
    expect_text(graph, ") row amax");
    expect_text(graph, "scale_along(");
    ASSERT_EQ(run(train("run", "smooth-swiglu",
                        {"--smooth.granularity", "channel", "--smooth.export_window", "10"}))
                  .exit_code,
              0);
    expect_text(expect_success({"generate", path("run"), "--prompt", "line ", "--tokens", "5"}),
                "line ");
    const std::string table =
        expect_success({"inspect", "swiglu", path("run"), "--out", path("channels.safetensors")});
    const SafetensorsFile channels(path("channels.safetensors"));
    EXPECT_TRUE(channels.contains("model.layers.1.mlp.cos"));
    EXPECT_TRUE(channels.contains("model.layers.1.mlp.factor"));  // as the run keeps them
    expect_text(table, "model.layers.0.mlp");
    expect_text(table, "model.layers.1.mlp");
    expect_text(table, "0.1768");  // 1 / sqrt(32)
    const std::vector<std::string> args{"convert",
                                        path("run"),
                                        "--as",
                                        "f32",
                                        "--out",
                                        path("folded"),
                                        "--batches",
                                        "2",
                                        "--batch",
                                        "2",
                                        "--seq",
                                        "32",
                                        "--fold-channels",
                                        path("data/train.bin")};
    expect_text(expect_success(args), "model.layers.1.mlp");
    // The same model, to the bit.
    const auto ids = [&](const std::string& model) {
        return expect_success({"generate", path(model), "--ids", "1,2,3", "--tokens", "20",
                               "--temperature", "0", "--recipe", "fp32"});
    };
    EXPECT_EQ(ids("folded"), ids("run"));
    const auto fold = [&](const char* form, const char* out, const std::string& factors) {
        return std::vector<std::string>{"convert", path("run"),       "--as", form, "--out",
                                        path(out), "--fold-channels", factors};
    };
    expect_text(expect_success(fold("f32", "kept", "checkpoint")), "model.layers.1.mlp");
    EXPECT_EQ(ids("kept"), ids("run"));
    // Though its weights are others.
    expect_success({"convert", path("run"), "--as", "f32", "--out", path("plain")});
    EXPECT_NE(slurp(path("kept/model.safetensors")), slurp(path("plain/model.safetensors")));
    const Finished again = run(args);
    EXPECT_EQ(again.exit_code, 1);
    expect_text(again.text, "it is there already");
    const std::string gpt2 = (std::filesystem::path(OCTAVO_FIXTURES) / "gpt2").string();
    const Finished none = run({"inspect", "swiglu", gpt2});
    EXPECT_EQ(none.exit_code, 1);
    expect_text(none.text, "Only models with SwiGLU align.");
}

TEST_F(Verbs, GenerateIsAFunctionOfTheSeed) {
    ASSERT_EQ(run(train("run", "fp8-lm")).exit_code, 0);
    const std::vector<std::string> args{"generate", path("run"), "--prompt", "line ",
                                        "--tokens", "40",        "--seed"};
    const auto with_seed = [&](const std::string& seed) {
        std::vector<std::string> all = args;
        all.push_back(seed);
        return expect_success(all);
    };
    EXPECT_EQ(with_seed("1"), with_seed("1"));
    EXPECT_NE(with_seed("1"), with_seed("2"));
    expect_text(with_seed("1"), "line ");
}

TEST_F(Verbs, GenerateFromAHuggingFaceFolder) {
    const std::string model = (std::filesystem::path(OCTAVO_FIXTURES) / "qwen3").string();
    const std::string ids = expect_success({"generate", model, "--ids", "1,2,3", "--tokens", "4",
                                            "--temperature", "0", "--recipe", "fp32"});
    EXPECT_EQ(std::count(ids.begin(), ids.end(), ','), 3);
    EXPECT_EQ(run({"generate", model, "--prompt", "x"}).exit_code, 2);
    for (const char* flag : {"--prompt", "--prompts", "--stop"}) {
        const Finished refused = run({"generate", model, "--ids", "1,2,3", flag, "x"});
        EXPECT_EQ(refused.exit_code, 2);
        expect_text(refused.text, "--ids and " + std::string(flag) + ":");
    }
    std::vector<std::string> fp8{"generate", model, "--ids",       "1,2,3",
                                 "--tokens", "4",   "--attention", "fp8"};
    const Finished refused = run(fp8);
    EXPECT_EQ(refused.exit_code, 2);
    expect_text(refused.text, "Add --kv fp8");
    fp8.insert(fp8.end(), {"--kv", "fp8"});
    const std::string made = expect_success(fp8);
    EXPECT_EQ(std::count(made.begin(), made.end(), ','), 3);
}

// How the cache lies in memory changes nothing; what it may take, and its scales, are said.
TEST_F(Verbs, GenerateTakesTheCacheAsItIsAsked) {
    const std::string fixtures = OCTAVO_FIXTURES;
    const auto generate = [&](const std::string& model, std::vector<std::string> more) {
        more.insert(more.begin(), {"generate", fixtures + "/" + model, "--ids", "1,2,3", "--tokens",
                                   "9", "--temperature", "0", "--samples", "2"});
        return run(more);
    };
    const Finished plain = generate("qwen3", {});
    EXPECT_EQ(plain.exit_code, 0) << plain.text;
    EXPECT_EQ(generate("qwen3", {"--block", "3"}).text, plain.text);
    EXPECT_EQ(generate("qwen3", {"--no-prefix-cache", "--memory-fraction", "0.5"}).text,
              plain.text);
    const Finished unit = generate("qwen3", {"--kv", "fp8", "--kv-calibration", "none"});
    EXPECT_EQ(unit.exit_code, 0) << unit.text;
    const Finished keys = generate("llama", {"--kv", "fp8", "--kv-calibration", "none"});
    EXPECT_EQ(keys.exit_code, 1);
    expect_text(keys.text, "scales of 1 may not hold the keys of a llama model");
    const Finished wide = generate("qwen3", {"--kv-calibration", "none"});
    EXPECT_EQ(wide.exit_code, 2);
    expect_text(wide.text, "--kv-calibration none: there are no scales without --kv fp8");
    const Finished crowded = generate("qwen3", {"--kv-gb", "0.000001"});
    EXPECT_EQ(crowded.exit_code, 1);
}

TEST_F(Verbs, ConvertWritesFoldersThatCanBeReadAgain) {
    expect_success(train("run", "bf16"));
    const auto generated = [&](const std::string& model) {
        return expect_success(
            {"generate", path(model), "--ids", "1,2,3", "--tokens", "8", "--temperature", "0"});
    };
    const auto convert = [&](const std::string& form, const std::string& said) {
        expect_text(expect_success({"convert", path("run"), "--out", path(form), "--as", form}),
                    said);
    };
    convert("f32", "20 weights, 0 of them in FP8");
    EXPECT_EQ(generated("f32"), generated("run"));
    convert("bf16", "20 weights, 0 of them in FP8");
    convert("fp8", "20 weights, 0 of them in FP8");  // all are smaller than a block
    expect_success({"convert", path("bf16"), "--out", path("again")});
    EXPECT_EQ(slurp(path("again/model.safetensors")), slurp(path("bf16/model.safetensors")));
    generated("fp8");
    convert("fp8-tensor", "20 weights, 14 of them in FP8");
    generated("fp8-tensor");
    const Finished refused = run({"convert", path("run"), "--out", path("bf16")});
    EXPECT_EQ(refused.exit_code, 1);
    expect_text(refused.text, "it is there already");
}

// The last number that the run itself measured, over the same windows.
TEST_F(Verbs, EvalRepeatsWhatTheRunMeasured) {
    for (const char* recipe : {"fp32", "bf16", "scalify"}) {
        std::vector<std::string> options{"--eval.batches", "3"};
        if (recipe == std::string("scalify")) {  // under the scales that the run ended with
            options.insert(options.end(), {"--train.lr", "3e-2", "--recipe.state_rescale", "5"});
        }
        expect_success(train(recipe, recipe, options));
        std::ifstream metrics(path(recipe) + "/metrics.jsonl");
        double want = 0;
        for (std::string line; std::getline(metrics, line);) {
            const auto json = nlohmann::json::parse(line);
            if (json.contains("held_out_loss")) want = json["held_out_loss"];
        }
        const std::string json = path(std::string(recipe) + ".jsonl");
        const std::string text =
            expect_success({"eval", path(recipe), "--data", path("data/held_out.bin"), "--batch",
                            "2", "--seq", "32", "--batches", "3", "--json", json});
        const auto got = nlohmann::json::parse(slurp(json));
        EXPECT_EQ(got["tokens"], 3 * 2 * 32);
        EXPECT_EQ(got["recipe"], recipe);
        EXPECT_NEAR(got["loss"].get<double>(), want, 1e-6 * want);
        EXPECT_NEAR(got["perplexity"].get<double>(), std::exp(want), 1e-4 * std::exp(want));
        expect_text(text, "per byte");
    }
    // 8 bits: scales of the tensors themselves instead of the past's.
    expect_success(train("eight", "fp8-lm"));
    const auto loss = [&](const std::string& recipe) {
        const std::string json = path(recipe + "-eight.jsonl");
        expect_success({"eval", path("eight"), "--data", path("data/held_out.bin"), "--recipe",
                        recipe, "--seq", "32", "--json", json});
        return nlohmann::json::parse(slurp(json))["loss"].get<double>();
    };
    const double wide = loss("fp32");
    EXPECT_NEAR(loss("fp8-lm"), wide, 0.05 * wide);
    const Finished refused =
        run({"eval", path("eight"), "--data", path("data/held_out.bin"), "--seq", "65"});
    EXPECT_EQ(refused.exit_code, 1);
    expect_text(refused.text, "longer than the model's 64 positions");
}

TEST_F(Verbs, ReportComparesRuns) {
    ASSERT_EQ(run(train("a", "bf16")).exit_code, 0);
    ASSERT_EQ(run(train("b", "fp8-lm")).exit_code, 0);
    const std::string table =
        expect_success({"report", path("a"), path("b"), "--out", path("report.html"), "--prompt",
                        "line <7>", "--tokens", "5"});
    expect_text(table, "fp8-lm");
    const std::string page = slurp(folder_ / "report.html");
    expect_text(page, "<pre class='sample'>line &lt;7&gt;");
    expect_text(page, "<th scope='row'>activations</th><td>");
    expect_text(page, "<svg");
    expect_text(page, "fp8-lm");
    expect_text(slurp(folder_ / "a" / "report.html"), "<svg");
    EXPECT_FALSE(std::filesystem::is_empty(folder_ / "a" / "tb"));
}

TEST_F(Verbs, DoctorAndBench) {
    const std::string doctor = expect_success({"doctor"});
    expect_text(doctor, "oneDNN");
    expect_text(doctor, "HTTP");
    expect_text(doctor, "TFLOP/s");
    expect_text(expect_success({"bench", "load", "--as", "f32", "--model",
                                (std::filesystem::path(OCTAVO_FIXTURES) / "llama").string()}),
                "GB/s of the files");
    const std::string ops =
        expect_success({"bench", "op", "--rows", "64", "--columns", "256", "--repeats", "1"});
    for (const char* op : {"rms_norm_grad + residual", "swiglu_grad -> e5m2", "adamw, bf16"}) {
        expect_text(ops, op);
    }
}

TEST_F(Verbs, BenchesLeaveResults) {
    const auto lines = [&](std::vector<std::string> args) {
        const std::string file = path("bench.jsonl");
        std::filesystem::remove(file);
        args.insert(args.begin(), "bench");
        args.insert(args.end(), {"--json", file});
        expect_success(args);
        std::vector<nlohmann::json> results;
        std::istringstream text(slurp(file));
        for (std::string line; std::getline(text, line);) {
            results.push_back(nlohmann::json::parse(line));
        }
        return results;
    };
    const auto step = lines({"step", path("run.toml"), "--recipe", "smooth-swiglu", "--repeats",
                             "1", "--smooth.granularity", "channel", "--breakdown"});
    ASSERT_EQ(step.size(), 1u);
    EXPECT_GT(step[0].at("tokens_per_s"), 0);
    EXPECT_EQ(step[0].at("options").at("smooth.granularity"), "channel");
    EXPECT_FALSE(step[0].at("options").contains("recipe.name"));
    EXPECT_GT(step[0].at("share_of_roofline"), 0);
    EXPECT_GT(step[0].at("breakdown_ms").at("micro").at("matmul wgrad"), 0);
    EXPECT_GT(step[0].at("breakdown_ms").at("update").at("adamw"), 0);

    const auto products = lines({"gemm", "--m", "32", "--n", "32", "--k", "128", "--seconds", "0",
                                 "--samples", "0", "--only", "micro(32),bf16 x bf16"});
    ASSERT_EQ(products.size(), 6u);
    EXPECT_EQ(products.back().at("product"),
              "wgrad e4m3 x e4m3 -> f32 + acc, micro(32) x micro(32)");

    const auto ops = lines({"op", "--rows", "64", "--columns", "256", "--repeats", "1", "--only",
                            "rms_norm, statistics"});
    ASSERT_EQ(ops.size(), 1u);
    EXPECT_EQ(ops[0].at("columns"), 256);
    EXPECT_GT(ops[0].at("gb_per_s"), 0);
}

TEST_F(Verbs, BenchOfGenerationPlansItsSteps) {
    const std::vector<std::string> args{"bench",    "generate", "--model",    "demo",
                                        "--prompt", "9",        "--tokens",   "3",
                                        "--recipe", "bf16",     "--breakdown"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), args.begin(), args.end());
        return run(more);
    };
    // Neither a power of two nor a divisor, and prompts that wait for running texts.
    const Finished done = with({"--batch", "5", "--max-batched-tokens", "8"});
    EXPECT_EQ(done.exit_code, 0) << done.text;
    for (const char* part : {"decoding: ", "head: ", "prompts: "}) expect_text(done.text, part);
    const Finished refused = with({"--batch", "8", "--max-batched-tokens", "8"});
    EXPECT_EQ(refused.exit_code, 2);
    expect_text(refused.text, "--batch: expected fewer texts than tokens of a step, got 8 and 8");
}

TEST_F(Verbs, ARunTakesTheMemoryThatWasPlanned) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    expect_success({"bench", "step", "--model", "demo", "--batch", "4", "--seq", "64", "--recipe",
                    "fp8-lm", "--warmup", "0", "--repeats", "1", "--json", path("bench.jsonl")});
    const auto result = nlohmann::json::parse(slurp(folder_ / "bench.jsonl"));
    const double planned = result.at("planned_gb"), peak = result.at("peak_resident_gb");
    EXPECT_GT(planned, 0.1);
    EXPECT_LT(peak, 1.15 * planned);
}

TEST_F(Verbs, DryRunAllocatesAndWritesNothing) {
    const std::string text = expect_success(train("dry", "bf16", {"--dry-run"}));
    expect_text(text, "[train]");
    expect_text(text, "activations");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "dry"));
}

}  // namespace
}  // namespace octavo::test
