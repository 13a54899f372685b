// A request under way: its texts in the engine, and what becomes of their tokens.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/api_reply.h"
#include "serve/api_request.h"
#include "serve/engine_loop.h"
#include "serve/served_model.h"
#include "serve/text_stream.h"

namespace octavo {

struct EncodedPrompt {
    std::vector<std::int32_t> ids;
    std::string text;        // for `echo`
    std::size_t before = 0;  // ids at its beginning that are not in the text
};

// Throws ApiError for ids that are no tokens, and for a text without any.
EncodedPrompt encode(const ServedModel&, const Prompt&);

// From the engine's events to parts of the reply's choices.
class Generation {
  public:
    Generation(const ServedModel& served, EngineLoop& engine, const GenerationRequest& asked,
               bool echo)
        : request(asked), model_(served), engine_(engine), echo_(echo) {}

    // Takes room for n texts of each of so many prompts, which are encoded only then. Throws
    // ApiError.
    void reserve(std::size_t prompts);
    // Hands the texts to the engine. `max_reply` bounds the tokens that the reply can have, each
    // counted once more for every likely one listed beside it. Throws ApiError.
    void submit(std::chrono::milliseconds time_limit, std::int64_t max_reply, std::uint64_t seed,
                const std::vector<std::int32_t>& stop_tokens);
    // What comes next; nothing when all is said. Throws ApiError.
    std::optional<Choice> next(const std::function<bool()>& gone);
    std::size_t choices() const { return texts_.size(); }
    const Usage& usage() const { return usage_; }

    GenerationRequest request;
    ReplyHead head = {};
    std::vector<EncodedPrompt> prompts = {};

  private:
    struct Text {
        TextStream shown;
        std::size_t prompt = 0;    // which one
        std::size_t at = 0;        // of the prompt's tokens
        std::string pending = {};  // bytes after the last whole character, for offsets
        std::size_t offset = 0;    // characters so far
        bool over = false;
    };

    std::vector<std::int64_t> new_tokens(std::int64_t max_reply) const;
    Choice begin(std::uint64_t index);
    Choice take(TokenEvent event);
    ShownToken show(Text&, const TokenScore&, bool hidden);
    std::string_view bytes_of(std::int32_t token) const;
    bool scores() const { return echo_ && (request.logprobs || request.max_tokens == 0); }
    bool over() const { return std::ranges::all_of(texts_, &Text::over); }

    const ServedModel& model_;
    EngineLoop& engine_;
    bool echo_;
    std::vector<Text> texts_ = {};
    std::size_t begun_ = 0;  // texts whose first part is out
    std::unique_ptr<Job> job_ = {};
    Usage usage_ = {};
    std::chrono::steady_clock::time_point deadline_ = {};
    std::chrono::steady_clock::time_point look_ = {};  // when to look again who is gone
};

}  // namespace octavo
