// octavo eval: how well a model predicts token files, and answers multiple-choice questions.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "report/append_file.h"
#include "train/evaluate.h"
#include "train/multiple_choice.h"
#include "train/run_tokenizer.h"

namespace octavo {
namespace {

Recipe recipe_for(const ModelFolder& model, const std::string& asked) {
    if (asked.empty() && model.recipe) return *model.recipe;
    return recipe_named(asked.empty() ? "bf16" : asked);
}

void append(const Args& args, const nlohmann::ordered_json& line) {
    const auto& file = args.flag<std::string>("json");
    if (!file.empty()) AppendFile(file).append(line.dump() + "\n");
}

void judge_data(const Args& args, const ModelFolder& model, Backend& backend) {
    EvaluationRequest request{.model = model.path,
                              .recipe = recipe_for(model, args.flag<std::string>("recipe")),
                              .batch = args.flag<std::int64_t>("batch"),
                              .seq = args.flag<std::int64_t>("seq"),
                              .batches = args.flag<std::int64_t>("batches"),
                              .windows = windows_named(args.flag<std::string>("windows")),
                              .documents = args.flag<bool>("document-mask"),
                              .end_of_text = args.flag<std::int64_t>("end-of-text")};
    for (const auto& path : args.flag<std::vector<std::string>>("data")) {
        RunTokenizer{.info = tokens_info(path)}.check_trained(
            model.extra, "Name token files of the same tokenizer in --data.");
        request.data.emplace_back(path);
    }
    const MeanLoss mean = evaluate_model(request, backend);
    fmt::print("recipe      {}\ntokens      {}\nloss        {:.5f}\nperplexity  {:.4f}\n",
               request.recipe.name, mean.tokens, mean.loss, std::exp(mean.loss));
    const double bits = mean.loss / std::log(2.0);
    const auto tokenizer = model.extra.find("tokenizer");
    const bool bytes = tokenizer != model.extra.end() && tokenizer->second == "byte";
    if (bytes) fmt::print("bits        {:.4f} per byte\n", bits);
    nlohmann::ordered_json line{{"model", model.path.string()},
                                {"recipe", request.recipe.name},
                                {"tokens", mean.tokens},
                                {"loss", mean.loss},
                                {"perplexity", std::exp(mean.loss)}};
    if (bytes) line["bits_per_byte"] = bits;
    append(args, line);
}

void judge_task(const Args& args, const ModelFolder& model, const std::string& file,
                Backend& backend) {
    const auto tokenizer = tokenizer_of_model(model.path, model.extra);
    check(tokenizer != nullptr,
          "{}: the model has no tokenizer, which --task needs\n"
          "  Put its tokenizer.json into the folder.",
          model.path.string());
    const ChoiceRequest request{.model = model.path,
                                .questions = read_choice_task(file),
                                .recipe = recipe_for(model, args.flag<std::string>("recipe")),
                                .batch = args.flag<std::int64_t>("batch"),
                                .seq = args.flag<std::int64_t>("seq")};
    const ChoiceScores s = evaluate_choices(request, *tokenizer, backend);
    fmt::print("task        {}\nrecipe      {}\nquestions   {}\n", file, request.recipe.name,
               s.questions);
    fmt::print("acc         {:.4f}\nacc_norm    {:.4f} by bytes\n            {:.4f} by tokens\n",
               s.accuracy, s.per_byte, s.per_token);
    if (s.shortened > 0) {
        fmt::print("{} contexts were too long for the model and lost their beginning\n",
                   s.shortened);
    }
    append(args, {{"model", model.path.string()},
                  {"task", file},
                  {"recipe", request.recipe.name},
                  {"questions", s.questions},
                  {"acc", s.accuracy},
                  {"acc_norm", s.per_byte},
                  {"acc_norm_tokens", s.per_token},
                  {"shortened", s.shortened}});
}

int run_eval(const Args& args) {
    const auto& data = args.flag<std::vector<std::string>>("data");
    const auto& tasks = args.flag<std::vector<std::string>>("task");
    if (data.empty() && tasks.empty()) {
        fail_usage("eval: expected --data with token files or --task with questions");
    }
    const ModelFolder model = find_model(args.operands()[0]);
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    if (!data.empty()) judge_data(args, model, *backend);
    for (const std::string& task : tasks) judge_task(args, model, task, *backend);
    return 0;
}

}  // namespace

Verb eval_verb() {
    return {.name = "eval",
            .help = "The loss of a model on token files, and its accuracy in multiple choice.",
            .run = run_eval,
            .operands = {.name = "MODEL", .min = 1, .max = 1},
            .flags = {
                {.name = "data",
                 .initial = std::vector<std::string>(),
                 .help = "token files: loss and perplexity"},
                {.name = "task",
                 .initial = std::vector<std::string>(),
                 .help = "JSON lines with context, choices and answer: accuracy"},
                {.name = "recipe",
                 .initial = std::string(),
                 .help = "recipe to compute in; as trained, or bf16"},
                {.name = "batch",
                 .initial = std::int64_t{8},
                 .help = "sequences at a time",
                 .rule = between(1, 1 << 16)},
                {.name = "seq",
                 .initial = std::int64_t{0},
                 .help = "length of a sequence; 0: the model's positions, for --data 1024 at most",
                 .rule = between(0, 1 << 24)},
                {.name = "batches",
                 .initial = std::int64_t{0},
                 .help = "the first so many; 0: all",
                 .rule = between(0, 1 << 30)},
                {.name = "windows",
                 .initial = std::string("stream"),
                 .help = "what a sequence of --data holds, as data.windows in training",
                 .rule = one_of({"stream", "packed", "padded"})},
                {.name = "document-mask",
                 .initial = false,
                 .help = "the documents of --data do not see each other"},
                {.name = "end-of-text",
                 .initial = std::int64_t{-1},
                 .help = "token that ends documents where no index does; -1: as tokens.json says",
                 .rule = between(-1, std::int64_t{1} << 31)},
                {.name = "json",
                 .initial = std::string(),
                 .help = "file to append the result to, as a JSON line"},
                {.name = "backend",
                 .initial = std::string("auto"),
                 .help = "where to compute",
                 .rule = one_of({"auto", "cpu", "cuda"})}}};
}

}  // namespace octavo
