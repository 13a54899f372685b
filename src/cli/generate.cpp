// octavo generate: text from a run, a checkpoint or a Hugging Face folder.
#include <fmt/format.h>

#include <charconv>

#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "engine/generator.h"
#include "io/byte_tokenizer.h"
#include "models/weights.h"

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

SampleOptions sample_options(const Args& args, bool byte_level) {
    SampleOptions o{.temperature = args.flag<double>("temperature"),
                    .top_k = args.flag<std::int64_t>("top-k"),
                    .top_p = args.flag<double>("top-p"),
                    .seed = static_cast<std::uint64_t>(args.flag<std::int64_t>("seed")),
                    .vocabulary = byte_level ? ByteTokenizer::kVocabulary : 0};
    check_options(o);
    return o;
}

int run_generate(const Args& args) {
    const ModelFolder model = find_model(args.operands()[0]);
    const Architecture arch = read_hf_config(model.path);
    const auto& words = args.flag<std::vector<std::string>>("ids");
    const bool text = words.empty();
    if (text && !model.byte_level) {
        fail_usage(
            "{}: --prompt needs a model trained on bytes by octavo\n  Other tokenizers cannot be "
            "read yet: give the prompt as --ids 1,2,3 and get ids back.",
            model.path.string());
    }
    std::vector<std::int32_t> prompt = parse_ids(words);
    const auto& prompt_text = args.flag<std::string>("prompt");
    if (text) {
        // Training text follows an end of text, so that is how a text begins.
        prompt.push_back(ByteTokenizer::kEndOfText);
        ByteTokenizer::encode(prompt_text, prompt);
    }

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

    const SampleOptions options = sample_options(args, model.byte_level);
    const auto samples = args.flag<std::int64_t>("samples");
    for (std::int64_t i = 0; i < samples; ++i) {
        if (text) fmt::print("{}", prompt_text);
        bool first = true;
        const auto emit = [&](std::int32_t token) {
            if (!text) {
                fmt::print("{}{}", first ? "" : ",", token);
            } else if (token == ByteTokenizer::kEndOfText) {
                return false;
            } else {
                fmt::print("{}", static_cast<char>(token));
            }
            first = false;
            std::fflush(stdout);
            return true;
        };
        generator.generate(prompt, count, options, static_cast<std::uint64_t>(i), emit);
        fmt::print("\n");
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
