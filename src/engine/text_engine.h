// Continuing texts: what is asked, what comes back, and who does it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/sample_options.h"

namespace octavo {

// One text to continue.
struct TextRequest {
    std::vector<std::int32_t> prompt;  // at least one token
    std::int64_t max_tokens = 0;       // 0: the prompt is only scored
    SampleOptions sampling = {};
    // Tell the texts of one seed apart: random numbers are a function of the seed, these two and
    // the number of the token.
    std::uint64_t sequence = 0;
    std::uint32_t sample = 0;  // of one prompt
    std::vector<std::int32_t> stop_tokens = {};
    // Report log-probabilities, with those of so many most likely tokens.
    std::optional<std::int64_t> logprobs = {};
    bool score_prompt = false;  // those of the prompt's tokens, too
};

// By the model's own distribution, whatever the temperature.
struct TokenScore {
    std::int32_t token = 0;
    std::optional<float> logprob = {};  // none if not asked for, and of the prompt's first token
    std::vector<std::pair<std::int32_t, float>> top = {};  // the most likely first
};

enum class Finish : std::uint8_t {
    none,    // more will come
    stop,    // this is one of the stop tokens
    length,  // max_tokens, or the end of the prompt if that is all
    failed,  // `error` says why; there is no token
};

struct TokenEvent {
    std::uint64_t id = 0;
    TokenScore score = {};
    float drawn_logprob = 0;  // of a new token, by the distribution that it was drawn from
    bool prompt = false;      // a token of the prompt, in order, before all new ones
    Finish finish = Finish::none;
    std::string error = {};
};

// Called by one thread.
class TextEngine {
  public:
    virtual ~TextEngine() = default;

    virtual std::int64_t context() const = 0;       // tokens of one text, prompt included
    virtual std::int64_t vocabulary() const = 0;    // ids of prompts are below it
    virtual std::int64_t max_logprobs() const = 0;  // most likely tokens it can report
    virtual bool scores_prompts() const = 0;
    virtual std::int64_t running() const = 0;  // texts it works on; the others wait

    // Returns the id of the text's events. The server keeps to the limits above.
    virtual std::uint64_t submit(TextRequest) = 0;
    // No more events of it come; ids that are over are ignored.
    virtual void cancel(std::uint64_t id) = 0;
    // Goes on by a little, such as a token of every running text. An Error is the engine's end.
    virtual std::vector<TokenEvent> step() = 0;
};

}  // namespace octavo
