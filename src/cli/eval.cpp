// octavo eval: how well a model predicts token files.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "report/append_file.h"
#include "train/evaluate.h"
#include "train/run_tokenizer.h"

namespace octavo {
namespace {

int run_eval(const Args& args) {
    const ModelFolder model = find_model(args.operands()[0]);
    const auto& asked = args.flag<std::string>("recipe");
    EvaluationRequest request{.model = model.path,
                              .recipe = asked.empty() && model.recipe
                                            ? *model.recipe
                                            : recipe_named(asked.empty() ? "bf16" : asked),
                              .batch = args.flag<std::int64_t>("batch"),
                              .seq = args.flag<std::int64_t>("seq"),
                              .batches = args.flag<std::int64_t>("batches")};
    for (const auto& path : args.flag<std::vector<std::string>>("data")) {
        RunTokenizer{.info = tokens_info(path)}.check_trained(
            model.extra, "Name token files of the same tokenizer in --data.");
        request.data.emplace_back(path);
    }
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    const MeanLoss mean = evaluate_model(request, *backend);
    fmt::print("recipe      {}\ntokens      {}\nloss        {:.5f}\nperplexity  {:.4f}\n",
               request.recipe.name, mean.tokens, mean.loss, std::exp(mean.loss));
    const double bits = mean.loss / std::log(2.0);
    const auto tokenizer = model.extra.find("tokenizer");
    const bool bytes = tokenizer != model.extra.end() && tokenizer->second == "byte";
    if (bytes) fmt::print("bits        {:.4f} per byte\n", bits);
    if (const auto& file = args.flag<std::string>("json"); !file.empty()) {
        nlohmann::ordered_json line{{"model", model.path.string()},
                                    {"recipe", request.recipe.name},
                                    {"tokens", mean.tokens},
                                    {"loss", mean.loss},
                                    {"perplexity", std::exp(mean.loss)}};
        if (bytes) line["bits_per_byte"] = bits;
        AppendFile(file).append(line.dump() + "\n");
    }
    return 0;
}

}  // namespace

Verb eval_verb() {
    return {.name = "eval",
            .help = "The loss and perplexity of a model on token files.",
            .run = run_eval,
            .operands = {.name = "MODEL", .min = 1, .max = 1},
            .flags = {{.name = "data",
                       .initial = std::vector<std::string>(),
                       .help = "token files",
                       .required = true},
                      {.name = "recipe",
                       .initial = std::string(),
                       .help = "recipe to compute in; as trained, or bf16"},
                      {.name = "batch",
                       .initial = std::int64_t{8},
                       .help = "sequences at a time",
                       .rule = between(1, 1 << 16)},
                      {.name = "seq",
                       .initial = std::int64_t{0},
                       .help = "length of a sequence; 0: the model's positions, 1024 at most",
                       .rule = between(0, 1 << 24)},
                      {.name = "batches",
                       .initial = std::int64_t{0},
                       .help = "the first so many; 0: all",
                       .rule = between(0, 1 << 30)},
                      {.name = "json",
                       .initial = std::string(),
                       .help = "file to append the result to, as a JSON line"},
                      {.name = "backend",
                       .initial = std::string("auto"),
                       .help = "where to compute",
                       .rule = one_of({"auto", "cpu", "cuda"})}}};
}

}  // namespace octavo
