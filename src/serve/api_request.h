// The bodies of POST /v1/completions and /v1/chat/completions, checked. Fields that would change
// the result and are not supported are refused by name, unless their value asks for nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/sample_options.h"
#include "serve/api_error.h"
#include "text/chat_template.h"

namespace octavo {

// What both have in common.
struct GenerationRequest {
    std::string model = {};                  // empty: whatever is served
    SampleOptions sampling = {};             // without the vocabulary
    std::optional<std::uint64_t> seed = {};  // none: a fresh one
    std::optional<std::int64_t> max_tokens = {};
    std::int64_t n = 1;  // texts per prompt
    std::vector<std::string> stop = {};
    std::optional<std::int64_t> logprobs = {};  // with so many most likely tokens
    bool stream = false, stream_usage = false;
};

using Prompt = std::variant<std::string, std::vector<std::int32_t>>;

struct CompletionRequest : GenerationRequest {
    std::vector<Prompt> prompts = {};  // at least one
    bool echo = false;
};

struct ChatRequest : GenerationRequest {
    std::vector<Message> messages = {};  // at least one
};

// Throw ApiError naming the field, what was expected, and what came.
CompletionRequest parse_completion_request(std::string_view json);
ChatRequest parse_chat_request(std::string_view json);

}  // namespace octavo
