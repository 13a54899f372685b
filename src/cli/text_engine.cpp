#include "cli/text_engine.h"

#include <algorithm>

#include "models/weights.h"
#include "serve/generator_engine.h"
#include "serve/text_stream.h"
#include "train/run_tokenizer.h"

namespace octavo {

std::unique_ptr<TextEngine> make_text_engine(const ModelFolder& folder, const Architecture& arch,
                                             Backend& backend, const std::string& recipe,
                                             std::int64_t context) {
    const Recipe formats = recipe.empty() && folder.recipe
                               ? *folder.recipe
                               : recipe_named(recipe.empty() ? "bf16" : recipe);
    const std::int64_t length =
        context > 0 ? std::min(context, arch.max_positions) : arch.max_positions;
    auto generator = std::make_unique<Generator>(backend, arch, formats, length);
    generator->allocate(backend.available_bytes());
    load_weights(folder.path, generator->state());
    generator->refresh();
    return std::make_unique<GeneratorEngine>(std::move(generator), length, arch.vocab_size);
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
