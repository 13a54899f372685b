#include "serve/api_reply.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "serve/text_stream.h"

namespace octavo {
namespace {

using Json = nlohmann::ordered_json;

constexpr float kLeast = -9999;  // JSON has no infinity

std::string dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

float finite(float logprob) { return std::max(logprob, kLeast); }

// Part of a character is written as its bytes: "bytes:\xe2\x82".
std::string token_text(const std::string& bytes) {
    if (valid_utf8(bytes) == bytes) return bytes;
    std::string text = "bytes:";
    for (const char c : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return text;
}

Json completion_logprobs(const std::vector<ShownToken>& shown) {
    Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(),
         offsets = Json::array();
    for (const ShownToken& token : shown) {
        const std::string text = token_text(token.bytes);
        tokens.push_back(text);
        offsets.push_back(token.offset);
        if (!token.logprob) {
            logprobs.push_back(nullptr);
            tops.push_back(nullptr);
            continue;
        }
        logprobs.push_back(finite(*token.logprob));
        Json top = Json::object();
        for (const auto& [bytes, logprob] : token.top) {
            if (const auto name = token_text(bytes); !top.contains(name))
                top[name] = finite(logprob);
        }
        // The token itself is always there.
        if (!token.top.empty() && !top.contains(text)) top[text] = finite(*token.logprob);
        tops.push_back(token.top.empty() ? Json() : std::move(top));
    }
    return {{"tokens", std::move(tokens)},
            {"token_logprobs", std::move(logprobs)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
}

Json chat_token(const std::string& bytes, float logprob) {
    Json numbers = Json::array();
    for (const char c : bytes) numbers.push_back(static_cast<unsigned char>(c));
    return {
        {"token", token_text(bytes)}, {"logprob", finite(logprob)}, {"bytes", std::move(numbers)}};
}

Json chat_logprobs(const std::vector<ShownToken>& shown) {
    Json content = Json::array();
    for (const ShownToken& token : shown) {
        Json entry = chat_token(token.bytes, token.logprob.value_or(0));
        entry["top_logprobs"] = Json::array();
        for (const auto& [bytes, logprob] : token.top) {
            entry["top_logprobs"].push_back(chat_token(bytes, logprob));
        }
        content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json head_json(const ReplyHead& head, const char* object) {
    return {{"id", head.id},
            {"object", object},
            {"created", head.created},
            {"model", head.model},
            {"choices", Json::array()}};
}

// `body` is what stands for the text: {"text": ..}, {"message": ..} or {"delta": ..}.
Json choice_json(const ReplyHead& head, const Choice& choice, Json body) {
    body["index"] = choice.index;
    body["logprobs"] = !choice.logprobs ? Json()
                       : head.chat      ? chat_logprobs(*choice.logprobs)
                                        : completion_logprobs(*choice.logprobs);
    body["finish_reason"] = choice.finish_reason ? Json(choice.finish_reason) : Json();
    return body;
}

Json usage_json(const Usage& usage) {
    return {{"prompt_tokens", usage.prompt_tokens},
            {"completion_tokens", usage.completion_tokens},
            {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

const char* chunk_object(const ReplyHead& head) {
    return head.chat ? "chat.completion.chunk" : "text_completion";
}

const char* error_type(int status) {
    return status == 429  ? "rate_limit_error"
           : status < 500 ? "invalid_request_error"
                          : "server_error";
}

Json model_entry(const std::string& name, std::int64_t created, std::int64_t context) {
    return {{"id", name},
            {"object", "model"},
            {"created", created},
            {"owned_by", "octavo"},
            {"max_model_len", context}};
}

}  // namespace

std::string reply_json(const ReplyHead& head, const std::vector<Choice>& choices,
                       const Usage& usage) {
    Json json = head_json(head, head.chat ? "chat.completion" : "text_completion");
    for (const Choice& choice : choices) {
        Json body;
        if (head.chat) {
            body["message"] = {{"role", "assistant"}, {"content", choice.text}};
        } else {
            body["text"] = choice.text;
        }
        json["choices"].push_back(choice_json(head, choice, std::move(body)));
    }
    json["usage"] = usage_json(usage);
    return dump(json);
}

std::string chunk_json(const ReplyHead& head, const Choice& choice, bool usage) {
    Json json = head_json(head, chunk_object(head));
    Json body;
    if (!head.chat) {
        body["text"] = choice.text;
    } else {
        body["delta"] = Json::object();
        if (choice.opens) body["delta"]["role"] = "assistant";
        if (choice.opens || !choice.text.empty()) body["delta"]["content"] = choice.text;
    }
    json["choices"].push_back(choice_json(head, choice, std::move(body)));
    if (usage) json["usage"] = nullptr;
    return dump(json);
}

std::string usage_chunk_json(const ReplyHead& head, const Usage& usage) {
    Json json = head_json(head, chunk_object(head));
    json["usage"] = usage_json(usage);
    return dump(json);
}

std::string error_json(const ApiError& error) {
    const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
    return dump({{"error",
                  {{"message", error.what()},
                   {"type", error_type(error.status)},
                   {"param", or_null(error.param)},
                   {"code", or_null(error.code)}}}});
}

std::string models_json(const std::string& name, std::int64_t created, std::int64_t context) {
    return dump({{"object", "list"}, {"data", {model_entry(name, created, context)}}});
}

std::string model_json(const std::string& name, std::int64_t created, std::int64_t context) {
    return dump(model_entry(name, created, context));
}

}  // namespace octavo
