// The generator as the server's engine: one text after the other.
#pragma once

#include <deque>
#include <memory>

#include "engine/generator.h"
#include "serve/text_engine.h"

namespace octavo {

class GeneratorEngine final : public TextEngine {
  public:
    // The generator has its weights, and `context` is the max_length it was made with.
    GeneratorEngine(std::unique_ptr<Generator> generator, std::int64_t context,
                    std::int64_t vocabulary);

    std::int64_t context() const override { return context_; }
    std::int64_t vocabulary() const override { return vocabulary_; }
    std::int64_t max_logprobs() const override { return 20; }
    bool scores_prompts() const override { return true; }
    std::int64_t running() const override { return queue_.empty() ? 0 : 1; }

    std::uint64_t submit(TextRequest) override;
    void cancel(std::uint64_t id) override;
    std::vector<TokenEvent> step() override;

  private:
    struct Text {
        std::uint64_t id;
        TextRequest request;
        std::size_t fed = 0;         // tokens of the prompt that were run
        std::int64_t generated = 0;  // new tokens, of which the last was not run yet
        std::int32_t last = 0;
    };

    TokenScore score(std::int32_t token, const TextRequest&) const;
    void feed_prompt(Text&, std::vector<TokenEvent>&);
    TokenEvent generate(Text&);

    std::unique_ptr<Generator> generator_;
    std::int64_t context_, vocabulary_;
    std::deque<Text> queue_;  // the first one runs
    std::uint64_t ids_ = 0;
    std::span<const float> logits_;  // after all that was run
};

}  // namespace octavo
