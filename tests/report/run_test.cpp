#include "report/run.h"

#include "base/file.h"
#include "sample.h"

namespace octavo {
namespace {

void write_run(const std::filesystem::path& folder, const RunData& run) {
    std::filesystem::create_directories(folder);
    std::string text;
    for (const StepMetrics& step : run.steps) text += metrics_line(step) + '\n';
    write_text(folder / "metrics.jsonl", text);
}

TEST(LoadRun, ReadsWhatTheFolderHolds) {
    const TempFolder folder;
    RunData run = sample_run("bf16", 3);
    run.info.memory = {{"state: weights", 12}, {"activations", 34}};
    write_run(folder.path(), run);
    write_run_info(folder.path(), run.info);
    write_text(folder.path() / "config.toml", "[train]\nsteps = 3\n");
    const RunData loaded = load_run(folder.path());
    EXPECT_EQ(loaded.info, run.info);
    EXPECT_EQ(loaded.steps, run.steps);
    EXPECT_EQ(loaded.config, "[train]\nsteps = 3\n");
    EXPECT_EQ(loaded.note, "");
}

TEST(LoadRun, ManagesWithMetricsAlone) {
    const TempFolder folder;
    write_run(folder.path() / "moss", sample_run("", 2));
    EXPECT_EQ(load_run(folder.path() / "moss").info.name, "moss");
    EXPECT_EQ(load_run(folder.path() / "moss" / "").info.name, "moss");
    EXPECT_EQ(load_run(folder.path() / "moss").config, "");
}

TEST(LoadRun, SaysWhatIsMissing) {
    const TempFolder folder;
    const std::string path = folder.path().string();
    EXPECT_EQ(error_of([&] { load_run(path + "/nope"); }),
              path +
                  "/nope: expected the folder of a run, got nothing there\n"
                  "  Give the folder that `octavo train` wrote, with metrics.jsonl in it.");
    EXPECT_EQ(error_of([&] { load_run(path); }),
              path +
                  ": expected metrics.jsonl in the folder of a run\n"
                  "  Give the folder that `octavo train` wrote.");
    write_text(path + "/metrics.jsonl", "");
    EXPECT_EQ(error_of([&] { load_run(path); }),
              path + "/metrics.jsonl: no step was recorded yet\n  Train for at least one step.");
    EXPECT_NE(error_of([&] { load_run(path + "/metrics.jsonl"); }).find("got a file"),
              std::string::npos);
    write_run(path, sample_run("x", 1));
    write_text(path + "/run.json", R"({"name":3})");
    EXPECT_EQ(error_of([&] { load_run(path); }),
              path +
                  "/run.json: expected an object with name, recipe, model, parameters and "
                  "state_bytes\n  Delete the file; the report works without it.");
}

TEST(Summarise, TakesTheLastTenthAndTheMedian) {
    RunData run = sample_run("bf16", 20);
    run.steps[18].loss = 2;
    run.steps[19].loss = 3;
    run.steps[4].held_out_loss = 9;
    run.steps[9].held_out_loss = 4;
    run.steps[7].memory_gb = 2.5;
    for (std::size_t i = 0; i < 20; ++i) run.steps[i].tokens_per_s = i == 0 ? 1 : 100 + double(i);
    const RunSummary summary = summarise(run);
    EXPECT_EQ(summary.steps, 20);
    EXPECT_EQ(summary.tokens, 20 * 2048);
    EXPECT_DOUBLE_EQ(summary.train_loss, 2.5);
    EXPECT_EQ(summary.held_out_loss, 4);
    EXPECT_DOUBLE_EQ(summary.memory_gb, 2.5);
    EXPECT_DOUBLE_EQ(summary.tokens_per_s, 110);  // of 101 to 119

    run.steps.resize(1);
    EXPECT_DOUBLE_EQ(summarise(run).tokens_per_s, 1);
    run.steps.clear();
    EXPECT_EQ(error_of([&] { summarise(run); }), "run bf16: no step was recorded");
}

TEST(Summarise, ADivergedRunShowsIt) {
    RunData run = sample_run("bf16", 20);
    run.steps.back().loss = std::nan("");
    EXPECT_TRUE(std::isnan(summarise(run).train_loss));
}

TEST(ComparisonTable, AlignsAndComparesToTheFirst) {
    const std::vector<RunSummary> runs = {{.name = "bf16",
                                           .recipe = "bf16",
                                           .steps = 600,
                                           .tokens = 1,
                                           .train_loss = 1.4963,
                                           .held_out_loss = 1.5434,
                                           .tokens_per_s = 11994,
                                           .memory_gb = 1,
                                           .state_bytes = 109002752},
                                          {.name = "fp8-lm",
                                           .recipe = "fp8-lm",
                                           .steps = 600,
                                           .tokens = 1,
                                           .train_loss = 1.5019,
                                           .held_out_loss = 1.5494,
                                           .tokens_per_s = 13368,
                                           .memory_gb = 1,
                                           .state_bytes = 81752064}};
    EXPECT_EQ(comparison_table(runs),
              "recipe   train loss           held-out loss           tokens/s           state MB\n"
              "---------------------------------------------------------------------------------\n"
              "bf16         1.4963                  1.5434             11,994              109.0\n"
              "fp8-lm       1.5019 +0.37 %          1.5494 +0.39 %     13,368 +11.5 %       81.8 "
              "-25.0 %\n");
}

TEST(ComparisonTable, NamesRunsThatAreNotNamedAfterTheirRecipe) {
    const std::vector<RunSummary> runs = {{.name = "a",
                                           .recipe = "bf16",
                                           .steps = 1,
                                           .tokens = 1,
                                           .train_loss = 2,
                                           .held_out_loss = {},
                                           .tokens_per_s = std::nan(""),
                                           .memory_gb = 1,
                                           .state_bytes = 0}};
    EXPECT_EQ(comparison_table(runs),
              "run   recipe   train loss   held-out loss   tokens/s   state MB\n"
              "---------------------------------------------------------------\n"
              "a     bf16         2.0000               -          -          -\n");
    EXPECT_EQ(error_of([] { comparison_table({}); }),
              "comparison table: expected at least one run, got none");
}

}  // namespace
}  // namespace octavo
