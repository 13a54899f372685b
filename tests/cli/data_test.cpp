// Data on its way through the program: other programs' token files, loss masks, documents,
// mixtures.
#include <random>

#include "cli/program.h"
#include "io/foreign_tokens.h"
#include "report/metrics.h"

namespace octavo::test {
namespace {

class DataFlow : public Workspace {
  protected:
    void SetUp() override {
        std::string pattern = (std::filesystem::temp_directory_path() / "octavo-XXXXXX").string();
        folder_ = mkdtemp(pattern.data());
        write("run.toml",
              "[model]\nvocab_size = 320\nhidden_size = 32\nlayers = 2\nheads = 2\nkv_heads = 1\n"
              "intermediate_size = 64\nmax_positions = 64\n[train]\nsteps = 12\nbatch = 2\n"
              "seq = 32\ngrad_accum = 2\nlr = 3e-3\nwarmup_steps = 2\n[checkpoint]\nevery = 5\n");
    }
    Finished succeed(const std::vector<std::string>& args) const {
        Finished done = run(args);
        EXPECT_EQ(done.exit_code, 0) << done.text;
        return done;
    }
    std::vector<double> losses(const std::string& dir) const {
        std::vector<double> found;
        for (const StepMetrics& m : read_metrics(folder_ / dir / "metrics.jsonl").steps) {
            found.push_back(m.loss);
        }
        return found;
    }
    static void expect_words(const Finished& done, const std::string& words) {
        EXPECT_NE(done.text.find(words), std::string::npos) << words << " in " << done.text;
    }
};

TEST_F(DataFlow, TokenFilesOfOtherProgramsAreTheSameData) {
    std::vector<std::int64_t> tokens, mask, lengths{500, 700, 800};
    std::mt19937 random(1);
    for (int i = 0; i < 2000; ++i) {
        tokens.push_back(random() % 300);
        mask.push_back(random() % 3 != 0);
    }
    std::string loss;  // of token i by the bit of i - 1
    for (int i = 0; i < 2000; ++i) loss += static_cast<char>(i > 0 ? mask[i - 1] : 1);
    write("a.bin", llmq_file(tokens, mask, 320));
    write("b.ds", packed<std::uint16_t>(tokens));
    write("b.ds.index", packed<std::uint64_t>({500, 1200, 2000}));
    write("b.ds.loss", loss);
    write("c.bin", packed<std::uint16_t>(tokens));
    write("c.idx", megatron_index(lengths, 8));
    write("c.bin.loss", loss);
    for (const std::string file : {"a.bin", "b.ds", "c.bin"}) {
        succeed(train("run-" + file, "fp32", {"--data.train", path(file)}));
        succeed({"eval", path("run-" + file), "--data", path(file), "--seq", "32", "--batches", "3",
                 "--json", path("eval.jsonl")});
        expect_words(succeed({"inspect", "tokens", path(file), "--show", "3"}),
                     "tokens        2000");
    }
    EXPECT_EQ(losses("run-a.bin").size(), 12u);
    EXPECT_EQ(losses("run-b.ds"), losses("run-a.bin"));
    // The mean is over the step, however its samples are cut into micro-batches with more or fewer
    // targets that count.
    for (const auto& [batch, micros] : {std::pair("4", "1"), std::pair("1", "4")}) {
        const std::string dir = std::string("cut-") + batch;
        succeed(train(
            dir, "fp32",
            {"--data.train", path("a.bin"), "--train.batch", batch, "--train.grad_accum", micros}));
        const auto cut = losses(dir), as_before = losses("run-a.bin");
        ASSERT_EQ(cut.size(), 12u);
        for (std::size_t i = 0; i < cut.size(); ++i) EXPECT_NEAR(cut[i], as_before[i], 1e-4);
    }
    EXPECT_EQ(losses("run-c.bin"), losses("run-a.bin"));
    expect_words(run({"inspect", "tokens", path("c.bin")}),
                 "documents     3, the longest of 800 tokens");
    const Finished refused = run({"inspect", "tokens", path("c.bin"), "--vocabulary", "200"});
    EXPECT_EQ(refused.exit_code, 1);
    expect_words(refused, "c.bin: expected token ids below the vocabulary of 200");
    // Without its mask, it is other data.
    std::filesystem::remove(path("c.bin.loss"));
    succeed(train("bare", "fp32", {"--data.train", path("c.bin")}));
    EXPECT_NE(losses("bare"), losses("run-a.bin"));
}

TEST_F(DataFlow, DocumentsAndMixturesGoOnExactly) {
    std::string web, code;
    for (int i = 0; i < 300; ++i) web += fmt::format("{{\"text\": \"page {} of the web\"}}\n", i);
    for (int i = 0; i < 60; ++i) code += fmt::format("{{\"text\": \"x[{}] = {};\"}}\n", i, i * i);
    write("web.jsonl", web);
    write("code.jsonl", code);
    for (const std::string name : {"web", "code"}) {
        succeed({"tokenize", path(name + ".jsonl"), "--out", path(name)});
    }
    const std::vector<std::string> options{
        "--data.train",         path("web/tr*.bin") + "," + path("code/train.bin"),
        "--data.weights",       "3,1",
        "--data.held_out",      path("web/held_out.bin"),
        "--data.windows",       "packed",
        "--data.document_mask", "true",
        "--eval.every",         "4"};
    for (const std::string recipe : {"fp32", "fp8-lm", "scalify"}) {
        const Finished whole = succeed(train("whole-" + recipe, recipe, options));
        expect_words(whole, "web/tr*.bin");
        expect_words(whole, " epochs, ");
        auto stopped = options;
        stopped.insert(stopped.end(), {"--stop-after", "7"});
        EXPECT_EQ(run(train("parts-" + recipe, recipe, stopped)).exit_code, 130);
        succeed(train("parts-" + recipe, recipe, options));
        EXPECT_EQ(losses("parts-" + recipe), losses("whole-" + recipe));
    }
    const Finished none = run(train("none", "fp32", {"--data.train", path("web/no*.bin")}));
    EXPECT_EQ(none.exit_code, 1);
    expect_words(none, "no*.bin: no file fits the pattern");
    const Finished odd = run(
        train("none", "fp32", {"--data.train", path("web/train.bin"), "--data.weights", "1,2"}));
    EXPECT_EQ(odd.exit_code, 2);
    expect_words(odd, "data.weights: expected a weight for each of the 1 entries");
}

TEST_F(DataFlow, StagesGoOnExactly) {
    std::mt19937 random(3);
    for (const std::string name : {"a", "b", "c"}) {
        std::vector<std::int64_t> tokens;
        for (int i = 0; i < 3000; ++i) tokens.push_back(random() % 300);
        write(name + ".bin", llmq_file(tokens, {}, 320));
    }
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(),
                    {"--data.train", path("a.bin") + "," + path("b.bin") + "," + path("c.bin")});
        return more;
    };
    const std::vector<std::string> plain = with({"--data.weights", "3,1,0"});
    const std::vector<std::string> staged =
        with({"--data.weights", "3,1,0,0,1,3,1,1,1", "--data.stages", "5,9"});
    EXPECT_EQ(run(train("none", "fp32", plain)).exit_code, 2);  // c is not read
    const Finished whole = succeed(train("whole", "fp32", staged));
    // 4 samples a step: 15 and 5, 0, 4 and 12, 4 each, of 92 windows.
    expect_words(whole, "a.bin 0.21 epochs");
    expect_words(whole, "b.bin 0.14 epochs");
    expect_words(whole, "c.bin 0.17 epochs");
    auto stopped = staged;
    stopped.insert(stopped.end(), {"--stop-after", "4"});
    // Stops within the first stage, and within the second; goes on across both borders.
    EXPECT_EQ(run(train("parts", "fp32", stopped)).exit_code, 130);
    EXPECT_EQ(run(train("parts", "fp32", stopped)).exit_code, 130);
    succeed(train("parts", "fp32", staged));
    EXPECT_EQ(losses("parts"), losses("whole"));

    // Up to the border it is the run without stages, to which the stage may be added later.
    succeed(train("even", "fp32", with({"--data.weights", "3,1,1"})));
    const auto added = with({"--data.weights", "3,1,1,0,0,1", "--data.stages", "8"});
    succeed(train("late", "fp32", added));
    auto even = losses("even"), late = losses("late");
    ASSERT_EQ(late.size(), 12u);
    EXPECT_NE(late, even);
    even.resize(8);
    late.resize(8);
    EXPECT_EQ(late, even);
    auto first = with({"--data.weights", "3,1,1"});
    first.insert(first.end(), {"--stop-after", "6"});
    EXPECT_EQ(run(train("added", "fp32", first)).exit_code, 130);
    succeed(train("added", "fp32", added));
    EXPECT_EQ(losses("added"), losses("late"));
}

TEST_F(DataFlow, EvaluationFindsTheDocumentsOfBareFiles) {
    std::vector<std::int64_t> tokens, lengths;
    std::mt19937 random(2);
    for (int d = 0; d < 60; ++d) {
        lengths.push_back(5 + random() % 30);
        for (std::int64_t i = 1; i < lengths.back(); ++i) tokens.push_back(random() % 300);
        tokens.push_back(300);
    }
    write("bare.bin", llmq_file(tokens, {}, 320));
    write("indexed.bin", packed<std::uint16_t>(tokens));
    write("indexed.idx", megatron_index(lengths, 8));
    succeed(train("run", "fp32", {"--data.train", path("bare.bin")}));
    const auto judged = [&](const std::string& data, const std::vector<std::string>& more) {
        std::vector<std::string> args{"eval",      path("run"), "--data",          path(data),
                                      "--windows", "packed",    "--document-mask", "--seq",
                                      "40"};
        args.insert(args.end(), more.begin(), more.end());
        return run(args);
    };
    const Finished bare = judged("bare.bin", {});
    EXPECT_EQ(bare.exit_code, 1);
    expect_words(bare, "bare.bin: nothing says where documents end");
    expect_words(bare, "--end-of-text");
    const Finished named = judged("bare.bin", {"--end-of-text", "300"});
    EXPECT_EQ(named.exit_code, 0) << named.text;
    EXPECT_EQ(named.text, judged("indexed.bin", {}).text);
    EXPECT_NE(named.text, judged("bare.bin", {"--end-of-text", "299"}).text);
}

TEST_F(DataFlow, DataWithoutATargetHasNoLoss) {
    write("text.jsonl", "{\"text\": \"" + std::string(500, 'a') + "\"}\n");
    succeed({"tokenize", path("text.jsonl"), "--out", path("data"), "--held-out", "0"});
    succeed({"tokenize", path("text.jsonl"), "--out", path("held"), "--held-out", "0"});
    succeed(train("run", "fp32", {"--data.train", path("data/train.bin")}));
    write("held/train.bin.loss", std::string(501, '\0'));
    const Finished trained = run(
        train("other", "fp32",
              {"--data.train", path("data/train.bin"), "--data.held_out", path("held/train.bin")}));
    EXPECT_EQ(trained.exit_code, 1);
    expect_words(trained, "held/train.bin: expected a token to be learned");
    // It does not wait for the first evaluation.
    EXPECT_FALSE(std::filesystem::exists(path("other/metrics.jsonl")));
    const Finished judged = run({"eval", path("run"), "--data", path("held/train.bin")});
    EXPECT_EQ(judged.exit_code, 1);
    expect_words(judged, "held/train.bin: expected a token to be learned");
}

// Prompts are random digits, which nothing but memory could predict; completions are always the
// same. With a mask the model learns only these.
TEST_F(DataFlow, DropoutThatAModelAsksForIsNamed) {
    const auto fixture = std::filesystem::path(OCTAVO_FIXTURES) / "llama";
    std::filesystem::copy(fixture, folder_ / "m");
    std::string config = slurp(folder_ / "m" / "config.json");
    const std::string key = "\"attention_dropout\": 0.0";
    ASSERT_NE(config.find(key), std::string::npos);
    write("data.bin", llmq_file(std::vector<std::int64_t>(200, 7), {}, 320));
    const auto tune = [&](const std::string& dir) {
        return succeed({"train", "--model.path", path("m"), "--data.train", path("data.bin"),
                        "--run.dir", path(dir), "--train.steps", "1", "--train.warmup_steps", "0",
                        "--train.batch", "1", "--train.seq", "32", "--recipe", "fp32"});
    };
    EXPECT_EQ(tune("none").text.find("dropout"), std::string::npos);
    config.replace(config.find(key), key.size(), "\"attention_dropout\": 0.25");
    write("m/config.json", config);
    expect_words(tune("some"),
                 "config.json: trained without the dropout that it asks for "
                 "(attention_dropout = 0.25)");
}

TEST_F(DataFlow, FineTuningLearnsCompletionsOnly) {
    std::string pairs;
    std::mt19937 random(3);
    for (int i = 0; i < 8; ++i) {
        std::string prompt;
        for (int k = 0; k < 16; ++k) prompt += static_cast<char>('a' + random() % 16);
        pairs += fmt::format("{{\"question\": \"{}\", \"reply\": \" yes, sir\"}}\n", prompt);
    }
    write("pairs.jsonl", pairs);
    const std::vector<std::string> tokenize{
        "tokenize", path("pairs.jsonl"), "--pairs", "--prompt", "question", "--completion",
        "reply",    "--held-out",        "0",       "--out"};
    const auto tokens_in = [&](const std::string& folder) {
        auto args = tokenize;
        args.push_back(path(folder));
        return succeed(args);
    };
    expect_words(tokens_in("tuning"), "208 tokens in 8 documents, 80 to learn");
    // The same tokens, with the mask the other way round, and without one.
    tokens_in("prompts");
    std::string mask = slurp(path("prompts/train.bin.loss"));
    ASSERT_EQ(mask.size(), 208u);
    for (char& c : mask) c = static_cast<char>(1 - c);
    write("prompts/train.bin.loss", mask);
    tokens_in("all");
    std::filesystem::remove(path("all/train.bin.loss"));

    // A model to begin with, then a run from its folder.
    succeed(train("base", "fp32",
                  {"--data.train", path("all/train.bin"), "--train.steps", "1",
                   "--train.warmup_steps", "0", "--train.lr", "0"}));
    const auto tuned = [&](const std::string& data) {
        succeed({"train",
                 "--model.path",
                 path("base/checkpoints/step_0000001"),
                 "--data.train",
                 path(data + "/train.bin"),
                 "--data.windows",
                 "packed",
                 "--data.document_mask",
                 "true",
                 "--run.dir",
                 path("run-" + data),
                 "--train.steps",
                 "300",
                 "--train.batch",
                 "2",
                 "--train.seq",
                 "64",
                 "--train.lr",
                 "3e-3",
                 "--train.warmup_steps",
                 "5",
                 "--runtime.recompute",
                 "block",
                 "--recipe",
                 "bf16"});
        std::vector<double> found;
        for (const std::string judged : {"tuning", "prompts"}) {
            succeed({"eval", path("run-" + data), "--data", path(judged + "/train.bin"), "--seq",
                     "64", "--windows", "packed", "--document-mask", "--recipe", "fp32", "--json",
                     path("eval-" + data + judged)});
            const std::string line = slurp(path("eval-" + data + judged));
            found.push_back(std::stod(line.substr(line.find("\"loss\":") + 7)));
        }
        return found;
    };
    const auto masked = tuned("tuning"), whole = tuned("all");
    EXPECT_LT(masked[0], 0.1);
    EXPECT_GT(masked[1], 4.0);  // log(320) = 5.8 at the beginning
    EXPECT_LT(whole[1], 2.0);
}

TEST_F(DataFlow, MultipleChoice) {
    std::string text, task;
    for (int i = 0; i < 200; ++i) {
        text += fmt::format("{{\"text\": \"question {}: yes indeed.\"}}\n", i % 10);
    }
    for (int i = 0; i < 8; ++i) {
        task += fmt::format(
            "{{\"context\": \"question {}:\", \"choices\": [\"no way.\", \"yes indeed.\", "
            "\"maybe so.\"], \"answer\": 1}}\n",
            i);
    }
    write("text.jsonl", text);
    write("task.jsonl", task);
    succeed({"tokenize", path("text.jsonl"), "--out", path("data"), "--held-out", "0"});
    succeed(train("run", "bf16",
                  {"--data.train", path("data/train.bin"), "--train.steps", "60",
                   "--data.document_mask", "true"}));
    const Finished done = succeed({"eval", path("run"), "--task", path("task.jsonl"), "--batch",
                                   "5", "--json", path("task.json")});
    expect_words(done,
                 "questions   8\nacc         1.0000\nacc_norm    1.0000 by bytes\n"
                 "            1.0000 by tokens\n");
    EXPECT_NE(slurp(path("task.json")).find("\"acc\":1.0"), std::string::npos);
    // A context of twice the model's positions.
    write("long.jsonl", fmt::format("{{\"query\": \"{} question 3:\", \"choices\": [\"4.\", "
                                    "\"7.\"], \"gold\": 0}}\n",
                                    std::string(120, '#')));
    expect_words(succeed({"eval", path("run"), "--task", path("long.jsonl")}),
                 "2 contexts were too long for the model and lost their beginning");
    const Finished nothing = run({"eval", path("run")});
    EXPECT_EQ(nothing.exit_code, 2);
    expect_words(nothing, "expected --data with token files or --task with questions");
    write("bad.jsonl", "{\"context\": \"a\", \"choices\": [\"x\"], \"answer\": 0}\n");
    const Finished bad = run({"eval", path("run"), "--task", path("bad.jsonl")});
    EXPECT_EQ(bad.exit_code, 1);
    expect_words(bad, "bad.jsonl: line 1: expected at least 2 choices, got 1");
}

}  // namespace
}  // namespace octavo::test
