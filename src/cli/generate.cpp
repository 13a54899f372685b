// octavo generate: text from a run, a checkpoint or a Hugging Face folder.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "engine/generator.h"
#include "models/weights.h"
#include "text/utf8.h"
#include "train/run_tokenizer.h"

namespace octavo {
namespace {

std::vector<std::int32_t> parse_ids(const std::vector<std::string>& words) {
    std::vector<std::int32_t> ids;
    for (const std::string& word : words) {
        std::int32_t id = 0;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
        if (error != std::errc() || end != word.data() + word.size() || id < 0) {
            fail_usage("--ids: expected token ids separated by commas, got '{}'", word);
        }
        ids.push_back(id);
    }
    return ids;
}

// Ids can be continued without a tokenizer; where there is one, it says which ids are tokens.
std::shared_ptr<const Tokenizer> find_tokenizer(const ModelFolder& model, bool needed) {
    try {
        return tokenizer_of_model(model.path, model.extra);
    } catch (const Error&) {
        if (needed) throw;
        return nullptr;
    }
}

SampleOptions sample_options(const Args& args, const Tokenizer* tokenizer, std::int64_t rows) {
    SampleOptions o{
        .temperature = args.flag<double>("temperature"),
        .top_k = args.flag<std::int64_t>("top-k"),
        .top_p = args.flag<double>("top-p"),
        .seed = static_cast<std::uint64_t>(args.flag<std::int64_t>("seed")),
        .vocabulary = tokenizer ? std::min<std::int64_t>(tokenizer->vocabulary(), rows) : 0};
    check_options(o);
    return o;
}

std::vector<std::int32_t> text_prompt(const Tokenizer& tokenizer, const std::string& text,
                                      bool trained_here) {
    std::vector<std::int32_t> ids = prompt_ids(tokenizer, text, trained_here);
    if (ids.empty())
        fail_usage("--prompt: expected a text, this tokenizer gives an empty one no token");
    return ids;
}

int run_generate(const Args& args) {
    const ModelFolder model = find_model(args.operands()[0]);
    const Architecture arch = read_hf_config(model.path);
    const auto& words = args.flag<std::vector<std::string>>("ids");
    const bool text = words.empty();
    const auto& prompt_text = args.flag<std::string>("prompt");
    const auto tokenizer = find_tokenizer(model, text);
    if (text && !tokenizer) {
        fail_usage(
            "{}: --prompt needs a tokenizer, and the folder has no tokenizer.json\n"
            "  Copy it there, or give the prompt as --ids 1,2,3 and get ids back.",
            model.path.string());
    }
    if (text) {
        check(tokenizer->vocabulary() <= arch.vocab_size,
              "{}: the tokenizer has {} tokens, the model's vocabulary only {}\n"
              "  They do not belong together.",
              model.path.string(), tokenizer->vocabulary(), arch.vocab_size);
    }
    const std::vector<std::int32_t> prompt =
        text ? text_prompt(*tokenizer, prompt_text, model.recipe.has_value()) : parse_ids(words);

    const auto& asked = args.flag<std::string>("recipe");
    const Recipe recipe = asked.empty() && model.recipe
                              ? *model.recipe
                              : recipe_named(asked.empty() ? "bf16" : asked);
    const auto count = args.flag<std::int64_t>("tokens");
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    Generator generator(*backend, arch, recipe, std::ssize(prompt) + count);
    generator.allocate(backend->available_bytes());
    load_weights(model.path, generator.state());
    generator.refresh();

    const SampleOptions options = sample_options(args, tokenizer.get(), arch.vocab_size);
    const auto samples = args.flag<std::int64_t>("samples");
    for (std::int64_t i = 0; i < samples; ++i) {
        if (text) fmt::print("{}", prompt_text);
        Utf8Stream characters;
        bool first = true;
        const auto emit = [&](std::int32_t token) {
            if (!text) {
                fmt::print("{}{}", first ? "" : ",", token);
            } else if (token == tokenizer->end_of_text()) {
                return false;
            } else {
                fmt::print("{}", characters.push(tokenizer->bytes(token)));
            }
            first = false;
            std::fflush(stdout);
            return true;
        };
        generator.generate(prompt, count, options, static_cast<std::uint64_t>(i), emit);
        fmt::print("{}\n", characters.finish());
    }
    return 0;
}

}  // namespace

Verb generate_verb() {
    return {
        .name = "generate",
        .help = "Continues a text with a model: a run, a checkpoint, or a Hugging Face folder.",
        .run = run_generate,
        .operands = {.name = "MODEL", .min = 1, .max = 1},
        .flags = {{.name = "prompt", .initial = std::string(), .help = "text to continue"},
                  {.name = "ids",
                   .initial = std::vector<std::string>(),
                   .help = "token ids to continue, instead of a text; prints ids"},
                  {.name = "tokens",
                   .initial = std::int64_t{200},
                   .help = "tokens to generate",
                   .rule = between(1, 1 << 24)},
                  {.name = "samples",
                   .initial = std::int64_t{1},
                   .help = "texts to generate",
                   .rule = between(1, 1 << 20)},
                  {.name = "temperature",
                   .initial = 0.8,
                   .help = "0: always the most likely token",
                   .rule = at_least(0)},
                  {.name = "top-k",
                   .initial = std::int64_t{0},
                   .help = "draw from the k most likely tokens; 0: from all",
                   .rule = at_least(0)},
                  {.name = "top-p",
                   .initial = 1.0,
                   .help = "draw from the most likely tokens with this probability together",
                   .rule = between(0, 1)},
                  {.name = "seed",
                   .initial = std::int64_t{1},
                   .help = "of the draws",
                   .rule = at_least(0)},
                  {.name = "recipe",
                   .initial = std::string(),
                   .help = "number formats; by default those the model was trained in, else bf16"},
                  {.name = "backend",
                   .initial = std::string("auto"),
                   .help = "where to compute",
                   .rule = one_of({"auto", "cpu", "cuda"})}}};
}

}  // namespace octavo
