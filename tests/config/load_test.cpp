#include "config/load.h"

#include <filesystem>

#include "base/file.h"
#include "config/expect_usage_error.h"
#include "config/model_presets.h"
#include "config/schema.h"

namespace octavo {
namespace {

std::string refusal(std::string_view toml, const std::vector<Override>& overrides = {}) {
    return usage_error([&] { parse_config(toml, "run.toml", overrides); });
}

Override set(const std::string& key, const std::string& text) { return {key, text, "--" + key}; }

TEST(Load, DefaultsThenFileThenOverrides) {
    const auto config = parse_config(
        "model.layers = 2\n"
        "[train]\nlr = 1e-3\nsteps = 200\nwarmup_steps = 10\n"
        "[data]\ntrain = ['a.bin', 'b.bin']\n"
        "[eval]\n",
        "configs/small.toml", {set("train.steps", "300"), set("runtime.fuse", "off")});
    EXPECT_EQ(config.model.layers, 2);
    EXPECT_EQ(config.train.lr, 1e-3);
    EXPECT_EQ(config.train.steps, 300);
    EXPECT_EQ(config.train.warmup_steps, 10);
    EXPECT_EQ(config.train.seq, RunConfig().train.seq);
    EXPECT_EQ(config.data.train, (std::vector<std::string>{"a.bin", "b.bin"}));
    EXPECT_FALSE(config.runtime.fuse);
    EXPECT_EQ(config.run.dir, "runs/small");
}

TEST(Load, AnIntegerIsANumber) {
    EXPECT_EQ(parse_config("train.clip = 2", "run.toml").train.clip, 2.0);
}

TEST(Load, CompletesTheShape) {
    const auto config = parse_config("[model]\nhidden_size = 768\nheads = 12\n", "run.toml");
    EXPECT_EQ(config.model.kv_heads, 12);
    EXPECT_EQ(config.model.head_dim, 64);
    EXPECT_EQ(config.model.intermediate_size, 2048);
    EXPECT_EQ(parse_config("model.family = 'gpt2'", "run.toml").model.intermediate_size, 1024);
}

TEST(Load, PresetsComeBeforeTheOtherKeysOfTheirLayer) {
    const std::string file = "[model]\nlayers = 6\npreset = 'gpt2-124m'\n";
    auto expected = model_preset("gpt2-124m");
    expected.layers = 6;
    EXPECT_EQ(parse_config(file, "run.toml").model, expected);
    EXPECT_EQ(parse_config(file, "run.toml", {set("model.preset", "llama-125m")}).model,
              model_preset("llama-125m"));
    expected.layers = 3;
    EXPECT_EQ(parse_config(file, "run.toml", {set("model.layers", "3")}).model, expected);
}

TEST(Load, AModelFolderHasItsOwnShape) {
    const auto config =
        parse_config("model.layers = 6", "run.toml", {set("model.path", "models/tiny")});
    EXPECT_EQ(config.model.path, "models/tiny");
    EXPECT_EQ(config.model.layers, RunConfig().model.layers);
    EXPECT_EQ(refusal("[model]\npath = 'm'\nlayers = 6\n"),
              "run.toml:3:10: model.layers: expected no shape beside model.path, got 6\n"
              "  m/config.json decides the shape; remove this key");
    EXPECT_EQ(refusal("model.path = 'm'", {set("model.heads", "2")}),
              "--model.heads: model.heads: expected no shape beside model.path, got 2\n"
              "  m/config.json decides the shape; remove this key");
    EXPECT_EQ(refusal("model.path = 'm'\nmodel.preset = 'demo'\n"),
              "run.toml:1:14: expected model.preset or model.path, got both\n"
              "  Remove one of them.");
}

TEST(Load, UnknownKeysGetASuggestion) {
    EXPECT_EQ(refusal("[train]\nlr = 1e-3\n  warmup = 10\naardvark = 5\n"),
              "run.toml:3:3: unknown key 'train.warmup'\n  did you mean 'train.warmup_steps'?");
    EXPECT_EQ(refusal("[trian]\nlr = 1e-3\n"),
              "run.toml:2:1: unknown key 'trian.lr'\n  did you mean 'train.lr'?");
    EXPECT_EQ(refusal("\n[evl]\n").substr(0, 30), "run.toml:2:2: unknown key 'evl");
    EXPECT_EQ(refusal("train.lr.x = 1"),
              "run.toml:1:10: unknown key 'train.lr.x'\n  did you mean 'train.lr'?");
    EXPECT_EQ(refusal("", {set("train.lrr", "1")}),
              "--train.lrr: unknown key 'train.lrr'\n  did you mean 'train.lr'?");
}

TEST(Load, TypesAndRangesHavePositions) {
    EXPECT_EQ(refusal("[train]\nsteps = 'many'\n"),
              "run.toml:2:9: train.steps: expected an integer in [1, 1000000000], got \"many\"");
    EXPECT_EQ(refusal("[train]\nsteps = 10.5\n"),
              "run.toml:2:9: train.steps: expected an integer in [1, 1000000000], got 10.5");
    EXPECT_EQ(refusal("[train]\nlr = -1\n"),
              "run.toml:2:6: train.lr: expected a number >= 0, got -1");
    EXPECT_EQ(
        refusal("recipe.state_rescale = -1"),
        "run.toml:1:24: recipe.state_rescale: expected an integer in [0, 1000000000], got -1");
    EXPECT_EQ(refusal("[train]\nlr = nan\n"),
              "run.toml:2:6: train.lr: expected a number >= 0, got nan");
    EXPECT_EQ(refusal("runtime.fuse = 'off'"),
              "run.toml:1:16: runtime.fuse: expected true or false, got \"off\"");
    EXPECT_EQ(refusal("data.train = 'a.bin'"),
              "run.toml:1:14: data.train: expected a list of strings, got \"a.bin\"");
    EXPECT_EQ(refusal("data.train = ['a', 1]"),
              "run.toml:1:14: data.train: expected a list of strings, got a list that is neither "
              "all strings nor all numbers");
    EXPECT_EQ(refusal("data.train = [1, 2.5]"),
              "run.toml:1:14: data.train: expected a list of strings, got [1, 2.5]");
    EXPECT_EQ(refusal("data.weights = ['a']"),
              "run.toml:1:16: data.weights: expected a list of numbers >= 0, got [\"a\"]");
    EXPECT_EQ(refusal("data.weights = [1, -1]"),
              "run.toml:1:16: data.weights: expected a list of numbers >= 0, got [1, -1]");
    EXPECT_EQ(refusal("data.stages = [0]"),
              "run.toml:1:15: data.stages: expected a list of numbers in [1, 1000000000], got [0]");
    EXPECT_EQ(refusal("run.dir = 1979-05-27"),
              "run.toml:1:11: run.dir: expected a string, got a date or time");
    EXPECT_EQ(refusal("train.lr = {}"),
              "run.toml:1:12: train.lr: expected a number >= 0, got a table");
    EXPECT_EQ(refusal("recipe.name = 'fp9'"),
              "run.toml:1:15: recipe.name: expected one of fp32, bf16, fp8-lm, moss, "
              "blockwise, smooth-swiglu, scalify, got \"fp9\"");
    EXPECT_EQ(refusal("", {set("train.steps", "1e3")}),
              "--train.steps: expected an integer in [1, 1000000000], got '1e3'");
}

TEST(Load, SyntaxErrorsHavePositions) {
    EXPECT_EQ(refusal("[train]\nlr = \n").substr(0, 42),
              "run.toml:2:6: expected TOML, got a mistake");
    EXPECT_TRUE(refusal("[train]\nlr = 1.0\nlr = 2.0\n").starts_with("run.toml:3:"));
    EXPECT_TRUE(refusal("[train]\n[train]\n").starts_with("run.toml:2:"));
    EXPECT_TRUE(refusal("a = \"\xff\"").starts_with("run.toml:1:"));
    EXPECT_TRUE(refusal("[train").starts_with("run.toml:1:"));
    // Where toml++ 3.3.0 by itself would abort, or go on with undefined behaviour.
    EXPECT_TRUE(refusal("[[$train]]").starts_with("run.toml:1:3: expected TOML"));
    EXPECT_TRUE(refusal("tr\xc3\xa9in = 1").starts_with("run.toml:1:3: expected TOML"));
    EXPECT_TRUE(refusal("run.dir = \"\"\"\\\xc3\xa9\"\"\"").starts_with("run.toml:1:"));
}

TEST(Load, HugeFilesAndDeepKeysAreRefused) {
    EXPECT_EQ(refusal(std::string((1 << 20) + 1, '\n')),
              "run.toml: expected a run file of at most 1048576 bytes, got 1048577");
    std::string deep = "\na";
    for (int i = 0; i < 100000; ++i) {
        deep += ".a";
    }
    EXPECT_EQ(refusal(deep + " = 1"), "run.toml:2: expected keys of at most 256 parts, got more");
    EXPECT_TRUE(refusal("a = " + std::string(100000, '[')).starts_with("run.toml:1:"));
}

TEST(Load, KeysMustFitEachOther) {
    const auto wrong = [](const std::string& toml) {
        const std::string text = refusal(toml);
        return text.substr(0, text.find('\n'));
    };
    EXPECT_EQ(wrong("model.heads = 3"),
              "model.heads: expected a divisor of model.hidden_size (256), got 3");
    EXPECT_EQ(wrong("model.kv_heads = 3"),
              "model.kv_heads: expected a divisor of model.heads (4), got 3");
    EXPECT_EQ(wrong("model.head_dim = 33"),
              "model.head_dim: expected an even number for rotary positions, got 33");
    EXPECT_EQ(wrong("data.weights = [1]"),
              "data.weights: expected a weight for each of the 0 entries of data.train, got 1");
    EXPECT_EQ(wrong("data = {train = ['a', 'b'], weights = [1, 0]}"),
              "data.weights: expected one above 0 for \"b\", got none");
    const auto staged = [&](const std::string& weights, const std::string& stages) {
        return wrong("data = {train = ['a', 'b'], weights = [" + weights + "], stages = [" +
                     stages + "]}");
    };
    EXPECT_EQ(
        staged("1, 1, 1", "10"),
        "data.weights: expected a weight for each of the 2 entries of data.train in each of 2 "
        "stages, got 3");
    EXPECT_EQ(staged("1, 1, 0, 0", "10"),
              "data.weights: expected one above 0 in each stage, got none in stage 2 of 2");
    EXPECT_EQ(staged("1, 0, 2, 0", "10"), "data.weights: expected one above 0 for \"b\", got none");
    EXPECT_EQ(staged("1, 0, 0, 1, 1, 1", "20, 10"),
              "data.stages: expected whole numbers of steps that rise, got [20, 10]");
    EXPECT_EQ(staged("1, 0, 0, 1, 1, 1", "10, 10"),
              "data.stages: expected whole numbers of steps that rise, got [10, 10]");
    EXPECT_EQ(staged("1, 0, 0, 1", "1.5"),
              "data.stages: expected whole numbers of steps that rise, got [1.5]");
    EXPECT_EQ(staged("", "10"), "data.stages: expected data.weights beside it, got none");
    EXPECT_EQ(wrong("train.seq = 2000"),
              "train.seq: expected at most model.max_positions (1024), got 2000");
    EXPECT_EQ(wrong("model.preset = 'gpt2-124m'\nmodel.kv_heads = 4"),
              "model.kv_heads: expected model.heads (12) in family gpt2, got 4");
    EXPECT_EQ(wrong("model.preset = 'gpt2-124m'\nmodel.head_dim = 32"),
              "model.head_dim: expected hidden_size / heads (768 / 12) in family gpt2, got 32");
    EXPECT_EQ(wrong("model.preset = 'gpt2-124m'\nmodel.tie_embeddings = false"),
              "model.tie_embeddings: expected true in family gpt2, got false");
    EXPECT_EQ(wrong("train.steps = 50"),
              "train.warmup_steps: expected at most train.steps (50), got 100");
    EXPECT_EQ(wrong("train = {schedule = 'wsd', steps = 200, decay_fraction = 0.8}"),
              "train.decay_fraction: expected at most 100 steps after warm-up, got 160 of 200");
    EXPECT_EQ(wrong("data = {train = ['a', 'b'], held_out = ['b']}"),
              "data.held_out: expected files that are not in data.train, got \"b\"");
    EXPECT_EQ(wrong("data.train = ['']"),
              "data.train: expected names of token files, got an empty one");
    EXPECT_EQ(wrong("checkpoint.keep_every = 750"),
              "checkpoint.keep_every: expected a multiple of checkpoint.every (500), got 750");
}

TEST(Load, MissingFilesAreWrongUsage) {
    const std::string text = usage_error([] { load_config("no/such.toml", {}); });
    EXPECT_TRUE(text.starts_with("no/such.toml: cannot open")) << text;
    EXPECT_NE(text.find("configs/demo.toml"), std::string::npos) << text;
    EXPECT_EQ(load_config(std::nullopt, {set("train.seed", "9")}).train.seed, 9);
}

TEST(Load, TheResolvedConfigReadsBackEqual) {
    const std::vector<std::vector<Override>> cases = {
        {},
        {set("model.preset", "gpt2-124m"), set("model.layers", "2")},
        {set("model.path", "a \"b\" \\ c\n\xc3\xa9")},
        {set("data.train", "x.bin,y.bin"), set("train.lr", "1.2345678901234567e-7"),
         set("train.eps", "1e-300"), set("recipe.name", "fp8-lm"), set("runtime.fuse", "off")},
    };
    for (const auto& overrides : cases) {
        const auto config = parse_config("", "first.toml", overrides);
        EXPECT_EQ(parse_config(to_toml(config), "second.toml"), config) << to_toml(config);
    }
}

// Every file of configs/ is a run file that works.
TEST(Load, ReadyConfigsAreValid) {
    const auto root = std::filesystem::path(OCTAVO_FIXTURES).parent_path().parent_path();
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(root / "configs")) {
        const auto config = load_config(entry.path(), {});
        EXPECT_FALSE(config.data.train.empty()) << entry.path();
        EXPECT_FALSE(config.data.held_out.empty()) << entry.path();
        EXPECT_EQ(config.run.dir, "runs/" + entry.path().stem().string());
        ++files;
    }
    EXPECT_GE(files, 3);
}

}  // namespace
}  // namespace octavo
