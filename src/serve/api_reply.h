// The JSON that goes back, in the forms of OpenAI's API.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/api_error.h"

namespace octavo {

// A token with its log-probability, as `logprobs` lists them.
struct ShownToken {
    std::string bytes;                  // perhaps part of a character
    std::size_t offset = 0;             // of characters in the choice's text
    std::optional<float> logprob = {};  // none: the first of a prompt
    std::vector<std::pair<std::string, float>> top = {};
};

// One text of a reply, or what a part of a stream adds to it.
struct Choice {
    std::uint64_t index = 0;
    std::string text = {};
    std::optional<std::vector<ShownToken>> logprobs = {};
    const char* finish_reason = nullptr;  // "stop" or "length"
    bool opens = false;                   // chats: the first part of a stream, with the role
};

struct Usage {
    std::int64_t prompt_tokens = 0, completion_tokens = 0;
};

// What all parts of a reply say.
struct ReplyHead {
    bool chat = false;
    std::string id, model;
    std::int64_t created = 0;  // unix time
};

std::string reply_json(const ReplyHead&, const std::vector<Choice>&, const Usage&);
// A part of a stream, without the "data: " around it. `usage` says that the stream will end with
// its usage.
std::string chunk_json(const ReplyHead&, const Choice&, bool usage);
std::string usage_chunk_json(const ReplyHead&, const Usage&);
std::string error_json(const ApiError&);
std::string models_json(const std::string& name, std::int64_t created, std::int64_t context);
std::string model_json(const std::string& name, std::int64_t created, std::int64_t context);

}  // namespace octavo
