#include "cli/command_line.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"

namespace octavo {
namespace {

int nothing(const Args&) { return 0; }

const std::vector<Verb>& verbs() {
    static const std::vector<Verb> table = {
        {.name = "train",
         .help = "Trains.",
         .run = nothing,
         .config = true,
         .flags = {{"dry-run", false, "print the plan only"}},
         .shorthands = {{"recipe", "recipe.name"}, {"model", "model.preset"}}},
        {.name = "generate",
         .help = "Continues a text.",
         .run = nothing,
         .operands = {"FOLDER", 1, 2},
         .flags = {{"max-tokens", std::int64_t{64}, "tokens to add", at_least(1)},
                   {"temperature", 1.0, "of sampling", between(0, 10)},
                   {"prompt", std::string(), "text to continue", {}, true},
                   {"stop", std::vector<std::string>(), "texts to stop at"}}},
        {.name = "inspect",
         .help = "Shows what runs.",
         .actions = {{.name = "plan", .help = "The plan.", .run = nothing, .config = true},
                     {.name = "run",
                      .help = "Runs once.",
                      .run = nothing,
                      .flags = {{"grads", false, "write gradients"}}}}},
    };
    return table;
}

Invocation parse(const std::vector<std::string>& words) {
    return parse_command_line(words, verbs());
}

std::string refusal(const std::vector<std::string>& words) {
    try {
        parse(words);
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::usage);
        return error.what();
    }
    ADD_FAILURE() << "no Error was thrown";
    return {};
}

TEST(CommandLine, OverridesInBothSpellings) {
    const auto call = parse({"train", "--train.lr=3e-4", "--train.steps", "500", "--dry-run",
                             "--recipe", "fp32", "--runtime.fuse=off", "--data.train=a,b"});
    ASSERT_EQ(call.verb, &verbs()[0]);
    EXPECT_EQ(call.args.config().train.lr, 3e-4);
    EXPECT_EQ(call.args.config().train.steps, 500);
    EXPECT_EQ(call.args.config().recipe.name, "fp32");
    EXPECT_EQ(call.args.config().data.train, (std::vector<std::string>{"a", "b"}));
    EXPECT_FALSE(call.args.config().runtime.fuse);
    EXPECT_TRUE(call.args.flag<bool>("dry-run"));
    EXPECT_TRUE(call.args.operands().empty());
}

TEST(CommandLine, RunFileAnywhereAmongTheFlags) {
    const std::string path = testing::TempDir() + "command_line_test.toml";
    write_file_atomically(path, "[train]\nsteps = 200\nlr = 1.0\n");
    const auto call = parse({"train", "--train.lr", "0.5", path, "--recipe=bf16"});
    EXPECT_EQ(call.args.config().train.steps, 200);
    EXPECT_EQ(call.args.config().train.lr, 0.5);
    EXPECT_EQ(call.args.config().run.dir, "runs/command_line_test");
    EXPECT_TRUE(call.args.operands().empty());
    std::filesystem::remove(path);
}

TEST(CommandLine, TheLastOfRepeatedFlagsWins) {
    EXPECT_EQ(parse({"train", "--train.lr=1", "--train.lr=2"}).args.config().train.lr, 2);
    EXPECT_EQ(parse({"generate", "x", "--prompt=a", "--prompt=b"}).args.flag<std::string>("prompt"),
              "b");
}

TEST(CommandLine, FlagsHaveTypesAndDefaults) {
    const auto call = parse({"generate", "--temperature", "0.5", "runs/x", "--prompt", "-1 [a, b]",
                             "--stop=.,?", "last"});
    EXPECT_EQ(call.args.flag<std::int64_t>("max-tokens"), 64);
    EXPECT_EQ(call.args.flag<double>("temperature"), 0.5);
    EXPECT_EQ(call.args.flag<std::string>("prompt"), "-1 [a, b]");
    EXPECT_EQ(call.args.flag<std::vector<std::string>>("stop"),
              (std::vector<std::string>{".", "?"}));
    EXPECT_EQ(call.args.operands(), (std::vector<std::string>{"runs/x", "last"}));
}

TEST(CommandLine, EmptyValuesAndOperandsThatLookLikeOtherThings) {
    const auto call = parse({"generate", "--prompt=", "train"});
    EXPECT_EQ(call.args.flag<std::string>("prompt"), "");
    EXPECT_EQ(call.args.operands(), (std::vector<std::string>{"train"}));
    EXPECT_EQ(parse({"generate", "--prompt=[a,b]", "-", "inspect"}).args.operands(),
              (std::vector<std::string>{"-", "inspect"}));
    EXPECT_EQ(parse({"generate", "--prompt", "", "--", "--help"}).args.operands(),
              (std::vector<std::string>{"--help"}));
    EXPECT_EQ(parse({"generate", "--prompt=[a,b]", "x"}).args.flag<std::string>("prompt"), "[a,b]");
}

TEST(CommandLine, ActionsAreVerbsOfVerbs) {
    EXPECT_EQ(parse({"inspect", "plan", "--train.seq=8"}).args.config().train.seq, 8);
    EXPECT_TRUE(parse({"inspect", "run", "--grads"}).args.flag<bool>("grads"));
    EXPECT_FALSE(parse({"inspect", "run", "--grads=false"}).args.flag<bool>("grads"));
}

TEST(CommandLine, UnknownNamesGetASuggestion) {
    EXPECT_EQ(refusal({"trian", "x.toml"}),
              "expected a verb, got 'trian'\n  did you mean 'train'?");
    EXPECT_EQ(refusal({}),
              "expected a verb, got none\n"
              "  it is one of train, generate, inspect; see octavo --help");
    EXPECT_EQ(refusal({"inspect", "plam"}),
              "inspect: expected an action, got 'plam'\n  did you mean 'plan'?");
    EXPECT_EQ(refusal({"inspect"}),
              "inspect: expected an action, got none\n"
              "  it is one of plan, run; see octavo inspect --help");
    EXPECT_EQ(refusal({"train", "--train.lrr=1"}),
              "train: unknown flag '--train.lrr'\n  did you mean 'train.lr'?");
    EXPECT_EQ(refusal({"train", "--dryrun"}),
              "train: unknown flag '--dryrun'\n  did you mean '--dry-run'?");
    EXPECT_EQ(refusal({"generate", "--what-is-it", "x"}),
              "generate: unknown flag '--what-is-it'\n  octavo generate --help lists its flags");
    EXPECT_EQ(refusal({"--versoin", "train"}),
              "unknown flag '--versoin'\n  did you mean '--version'?");
    EXPECT_TRUE(refusal({"train", "-x"}).starts_with("train: unknown flag '-x'"));
}

TEST(CommandLine, WrongValuesNameTheFlag) {
    EXPECT_EQ(refusal({"generate", "x", "--prompt=p", "--max-tokens=0"}),
              "--max-tokens: expected an integer >= 1, got 0");
    EXPECT_EQ(refusal({"train", "--recipe", "fp9"}),
              "--recipe: expected one of fp32, bf16, fp8-lm, moss, blockwise, "
              "smooth-swiglu, scalify, got \"fp9\"");
    EXPECT_EQ(refusal({"train", "--train.lr", "fast"}),
              "--train.lr: expected a number >= 0, got 'fast'");
    EXPECT_EQ(refusal({"train", "--train.lr"}), "--train.lr: expected a value after it, got none");
    EXPECT_EQ(refusal({"train", "--recipe=bf16", "--recipe.name=bf16"}),
              "--recipe: expected it or --recipe.name, got both");
    EXPECT_EQ(refusal({"inspect", "run", "--grads=maybe"}).substr(0, 7), "--grads");
}

TEST(CommandLine, CountsOperands) {
    EXPECT_EQ(refusal({"generate", "--prompt=p"}),
              "generate: expected at least 1 FOLDER, got 0\n  See octavo generate --help.");
    EXPECT_EQ(refusal({"generate", "--prompt=p", "a", "b", "c"}),
              "generate: expected at most 2 FOLDER, got 'c'\n  See octavo generate --help.");
    EXPECT_EQ(refusal({"inspect", "run", "a"}),
              "inspect run: expected no operand, got 'a'\n  See octavo inspect run --help.");
    EXPECT_EQ(refusal({"generate", "x"}),
              "generate: expected --prompt, got none\n  It is text to continue.");
}

TEST(CommandLine, HelpAndVersion) {
    const auto program = parse({"--help"});
    EXPECT_EQ(program.verb, nullptr);
    EXPECT_NE(program.text.find("train "), std::string::npos);
    EXPECT_EQ(parse({"--version"}).text, "octavo 0.1.0\n");

    const std::string train = parse({"train", "-h"}).text;
    EXPECT_TRUE(
        train.starts_with("octavo train [RUN.toml] [--flag ..] [--section.key=value ..]\n"));
    EXPECT_NE(train.find("--recipe TEXT                short for --recipe.name"),
              std::string::npos);
    EXPECT_NE(train.find("--train.lr"), std::string::npos);
    EXPECT_NE(train.find("(default 0.0006; >= 0)"), std::string::npos);

    const std::string generate = parse({"generate", "--help"}).text;
    EXPECT_TRUE(generate.starts_with("octavo generate FOLDER .. [--flag ..]\n"));
    EXPECT_NE(generate.find("--max-tokens N               tokens to add (default 64; >= 1)"),
              std::string::npos);
    EXPECT_NE(generate.find("text to continue (required)"), std::string::npos);
    EXPECT_EQ(generate.find("--train.lr"), std::string::npos);

    EXPECT_TRUE(parse({"inspect", "--help"}).text.starts_with("octavo inspect ACTION ..."));
    EXPECT_TRUE(parse({"inspect", "plan", "--help"}).text.starts_with("octavo inspect plan ["));
}

}  // namespace
}  // namespace octavo
