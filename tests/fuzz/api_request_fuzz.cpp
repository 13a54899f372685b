// Bodies of completion and chat requests. Each either is refused with status 400 and a short
// message that can be sent back, or asks for something within bounds.
//
// Build with: src/base/error.cpp src/serve/api_request.cpp src/serve/api_reply.cpp
// Build with: src/serve/text_stream.cpp src/text/json_reader.cpp src/text/utf8.cpp -lfmt
#include <cmath>
#include <string>
#include <string_view>

#include "fuzz.h"
#include "serve/api_reply.h"
#include "serve/api_request.h"
#include "serve/text_stream.h"

namespace octavo {
namespace {

void check_common(const GenerationRequest& r) {
    require(r.n >= 1 && r.n <= 128, "n is bounded");
    require(r.sampling.temperature >= 0 && std::isfinite(r.sampling.temperature), "temperature");
    require(r.sampling.top_p > 0 && r.sampling.top_p <= 1, "top_p is a share");
    require(r.sampling.top_k >= 0, "top_k is a count");
    require(!r.max_tokens || *r.max_tokens >= 0, "max_tokens is a count");
    require(!r.logprobs || *r.logprobs >= 0, "logprobs is a count");
    for (const std::string& stop : r.stop) require(!stop.empty(), "stop strings are not empty");
}

template <class Parse, class Check>
void read(Parse parse, std::string_view json, Check check) {
    try {
        check(parse(json));
    } catch (const ApiError& error) {
        const std::string message = error.what();
        require(error.status == 400, "a bad body is the client's mistake");
        require(!message.empty() && message.size() < 700, "messages are short");
        require(!error_json(error).empty(), "errors can be sent");
    }
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    const std::string_view json(reinterpret_cast<const char*>(data), size);
    read(parse_completion_request, json, [](const CompletionRequest& r) {
        check_common(r);
        require(!r.prompts.empty(), "there is a prompt");
        require(r.max_tokens != 0 || r.echo, "nothing to generate needs an echo");
        for (const Prompt& prompt : r.prompts) {
            if (const auto* text = std::get_if<std::string>(&prompt)) {
                require(valid_utf8(*text) == *text, "strings are UTF-8");
            } else {
                for (const std::int32_t id : std::get<std::vector<std::int32_t>>(prompt)) {
                    require(id >= 0, "ids are not negative");
                }
            }
        }
    });
    read(parse_chat_request, json, [](const ChatRequest& r) {
        check_common(r);
        require(!r.messages.empty(), "there is a message");
        for (const Message& m : r.messages) {
            require(m.role == "system" || m.role == "user" || m.role == "assistant", "roles");
        }
    });
    return 0;
}
