#include "cli/text_engine.h"

#include <algorithm>

#include "models/generation_config.h"
#include "models/weights.h"
#include "serve/text_stream.h"
#include "train/run_tokenizer.h"

namespace octavo {

Flag kv_flag() {
    return {.name = "kv",
            .initial = std::string("bf16"),
            .help = "keys and values: as activations are, or in E4M3 under calibrated scales",
            .rule = one_of({"bf16", "fp8"})};
}

Flag attention_flag() {
    return {.name = "attention",
            .initial = std::string("bf16"),
            .help = "its products: as activations are, or of E4M3 codes, with --kv fp8",
            .rule = one_of({"bf16", "fp8"})};
}

void take_cache_flags(const Args& args, EngineOptions& options) {
    options.fp8_cache = args.flag<std::string>("kv") == "fp8";
    options.fp8_attention = args.flag<std::string>("attention") == "fp8";
    if (options.fp8_attention && !options.fp8_cache) {
        fail_usage("--attention fp8: its keys and values are in FP8, too\n  Add --kv fp8.");
    }
}

std::vector<Flag> engine_flags() {
    return {{.name = "recipe",
             .initial = std::string(),
             .help = "number formats; by default those the model was trained in, else bf16"},
            kv_flag(),
            attention_flag(),
            {.name = "kv-gb",
             .initial = 0.0,
             .help = "memory of keys and values; 0: what is left, or all that texts can use",
             .rule = between(0, 1 << 20)},
            {.name = "memory-fraction",
             .initial = 0.9,
             .help = "of the memory that is left, what keys and values may take without --kv-gb",
             .rule = between(0.01, 1)},
            {.name = "block",
             .initial = std::int64_t{16},
             .help = "tokens whose keys and values lie together: what is given, freed and shared",
             .rule = between(1, 1 << 12)},
            {.name = "no-prefix-cache",
             .initial = false,
             .help = "compute every prompt whole, though another began alike"},
            {.name = "kv-calibration",
             .initial = std::string("engine"),
             .help = "scales of --kv fp8: what the first prompts need, or none (all 1)",
             .rule = one_of({"engine", "none"})},
            {.name = "max-seqs",
             .initial = std::int64_t{64},
             .help = "texts that run at a time; the others wait",
             .rule = between(1, 1 << 12)},
            {.name = "max-batched-tokens",
             .initial = std::int64_t{2048},
             .help = "of a step: longer prompts go in by pieces",
             .rule = between(1, 1 << 20)},
            {.name = "backend",
             .initial = std::string("auto"),
             .help = "where to compute",
             .rule = one_of({"auto", "cpu", "cuda"})}};
}

EngineOptions engine_options(const Args& args) {
    EngineOptions options{
        .max_seqs = args.flag<std::int64_t>("max-seqs"),
        .max_batched_tokens = args.flag<std::int64_t>("max-batched-tokens"),
        .block = args.flag<std::int64_t>("block"),
        .kv_pool_bytes = static_cast<std::int64_t>(args.flag<double>("kv-gb") * 1e9),
        .memory_fraction = args.flag<double>("memory-fraction"),
        .prefix_cache = !args.flag<bool>("no-prefix-cache")};
    take_cache_flags(args, options);
    if (args.flag<std::string>("kv-calibration") == "none") {
        if (!options.fp8_cache) {
            fail_usage("--kv-calibration none: there are no scales without --kv fp8");
        }
        options.calibration = KvCalibration::none;
    }
    return options;
}

std::unique_ptr<Engine> make_text_engine(const ModelFolder& folder, const Architecture& arch,
                                         Backend& backend, const std::string& recipe,
                                         EngineOptions options) {
    const Recipe formats = recipe.empty() && folder.recipe
                               ? *folder.recipe
                               : recipe_named(recipe.empty() ? "bf16" : recipe);
    auto engine = std::make_unique<Engine>(backend, arch, formats, options);
    engine->load(
        [&](std::span<const WeightTarget> weights) { load_weights(folder.path, weights); });
    return engine;
}

std::shared_ptr<const Tokenizer> matching_tokenizer(const ModelFolder& folder,
                                                    const Architecture& arch) {
    auto tokenizer = tokenizer_of_model(folder.path, folder.extra);
    check(!tokenizer || tokenizer->vocabulary() <= arch.vocab_size,
          "{}: the tokenizer has {} tokens, the model's vocabulary only {}\n"
          "  They do not belong together.",
          folder.path.string(), tokenizer ? tokenizer->vocabulary() : 0, arch.vocab_size);
    return tokenizer;
}

std::vector<std::int32_t> stop_tokens(const ModelFolder& folder, const Tokenizer* tokenizer) {
    std::vector<std::int32_t> stops = read_eos_tokens(folder.path);
    if (tokenizer) {
        if (const auto end = tokenizer->end_of_text()) stops.push_back(*end);
    }
    return stops;
}

std::string sample_text(TextEngine& engine, const Tokenizer& tokenizer, const std::string& prompt,
                        bool after_end_of_text, std::int64_t count) {
    TextRequest request{.prompt = prompt_ids(tokenizer, prompt, after_end_of_text)};
    request.max_tokens = std::min(count, engine.context() - std::ssize(request.prompt));
    check(!request.prompt.empty() && request.max_tokens > 0,
          "expected a prompt of 1 to {} tokens, got {}", engine.context() - 1,
          request.prompt.size());
    request.sampling = {.temperature = 0.8, .vocabulary = tokenizer.vocabulary()};
    if (const auto end = tokenizer.end_of_text()) request.stop_tokens.push_back(*end);
    engine.submit(std::move(request));
    TextStream characters;
    std::string text = valid_utf8(prompt);
    for (;;) {
        for (const TokenEvent& event : engine.step()) {
            if (event.finish == Finish::failed) fail("{}", event.error);
            if (event.finish != Finish::stop) {
                text += characters.push(tokenizer.bytes(event.score.token));
            }
            if (event.finish != Finish::none) return text + characters.finish();
        }
    }
}

}  // namespace octavo
