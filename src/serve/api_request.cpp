#include "serve/api_request.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "text/json_reader.h"
#include "text/utf8.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMaxTexts = 128;  // n, as OpenAI has it
constexpr std::size_t kMaxStops = 16;
constexpr std::size_t kMaxStopBytes = 1024;
constexpr std::int64_t kMaxTokens = std::int64_t{1} << 31;

std::string valid_prefix(const std::string& text, std::size_t bytes) {
    std::string prefix = text.substr(0, bytes);
    prefix.resize(prefix.size() - unfinished_bytes(prefix));
    return prefix;
}

// A value as messages show it.
std::string shown(const Json& value) {
    if (value.is_object()) return "an object";
    if (value.is_array()) return value.empty() ? "an empty list" : "a list";
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 60) text = valid_prefix(text, 57) + "...";
    return text;
}

// The members of a request. Whoever reads them all, and says which others mean nothing, learns of
// the rest by `finish`. null stands for a member that is not there.
class Fields {
  public:
    explicit Fields(std::string_view text) : json_(parse(text)) {}

    const Json* find(const std::string& name) {
        known_.insert(name);
        const auto found = json_.find(name);
        return found == json_.end() || found->is_null() ? nullptr : &*found;
    }

    bool boolean(const std::string& name) {
        const Json* value = find(name);
        if (value && !value->is_boolean()) {
            refuse(name, "expected true or false, got {}", shown(*value));
        }
        return value && value->get<bool>();
    }

    std::string text(const std::string& name) {
        const Json* value = find(name);
        if (value && !value->is_string()) refuse(name, "expected a string, got {}", shown(*value));
        return value ? value->get<std::string>() : std::string();
    }

    std::optional<std::int64_t> integer(const std::string& name, std::int64_t lo, std::int64_t hi) {
        const Json* value = find(name);
        if (!value) return std::nullopt;
        const bool fits = value->is_number_integer() && *value >= lo && *value <= hi;
        if (!fits && hi == kMaxTokens) {
            refuse(name, "expected an integer of at least {}, got {}", lo, shown(*value));
        }
        if (!fits) {
            refuse(name, "expected an integer from {} to {}, got {}", lo, hi, shown(*value));
        }
        return value->get<std::int64_t>();
    }

    double number(const std::string& name, double initial, double lo, double hi) {
        const Json* value = find(name);
        if (!value) return initial;
        const double number = value->is_number() ? value->get<double>() : std::nan("");
        if (!(number >= lo && number <= hi)) {
            refuse(name, "expected a number from {} to {}, got {}", lo, hi, shown(*value));
        }
        return number;
    }

    // Fields that ask for nothing as long as `neutral` says so of their value.
    void ignore_if(const char* name, bool (*neutral)(const Json&)) {
        const Json* value = find(name);
        if (value && !neutral(*value)) {
            refuse(name, "this is not supported, got {}", shown(*value));
        }
    }

    void finish() const {
        for (const auto& [name, value] : json_.items()) {
            if (known_.contains(name) || value.is_null()) continue;
            const std::string field = name.size() > 60 ? valid_prefix(name, 57) + "..." : name;
            refuse(field, "there is no such field");
        }
    }

  private:
    static Json parse(std::string_view text) {
        try {
            return read_json(text);
        } catch (const Error& error) {
            throw ApiError(400, fmt::format("the request's body: {}", error.message()));
        }
    }

    Json json_;
    std::set<std::string, std::less<>> known_;
};

bool anything(const Json&) { return true; }
bool is_false(const Json& v) { return v == false; }
bool is_zero(const Json& v) { return v.is_number() && v == 0; }
bool is_one(const Json& v) { return v.is_number() && v == 1; }
bool is_empty(const Json& v) {
    return (v.is_structured() && v.empty()) || (v.is_string() && v == "");
}
bool is_text_format(const Json& v) {
    return v.is_object() && v.size() == 1 && v.contains("type") && v["type"] == "text";
}
bool is_none(const Json& v) { return v == "none" || v == "auto"; }

std::vector<std::string> stops(Fields& fields) {
    const Json* value = fields.find("stop");
    if (!value) return {};
    const Json list = value->is_array() ? *value : Json::array({*value});
    if (list.size() > kMaxStops) {
        refuse("stop", "expected at most {} strings, got {}", kMaxStops, list.size());
    }
    std::vector<std::string> stops;
    for (const Json& stop : list) {
        if (!stop.is_string() || stop == "") {
            refuse("stop", "expected a string that is not empty or a list of them, got {}",
                   shown(stop));
        }
        stops.push_back(stop.get<std::string>());
        if (stops.back().size() > kMaxStopBytes) {
            refuse("stop", "expected strings of at most {} bytes, got one of {}", kMaxStopBytes,
                   stops.back().size());
        }
    }
    return stops;
}

void parse_common(Fields& fields, GenerationRequest& r) {
    r.model = fields.text("model");
    r.sampling.temperature = fields.number("temperature", 1, 0, 100);
    r.sampling.top_p = fields.number("top_p", 1, 0, 1);
    if (r.sampling.top_p == 0) refuse("top_p", "expected a number above 0, got 0");
    // -1 and 0 both mean all, to different clients.
    r.sampling.top_k = std::max<std::int64_t>(
        0, fields.integer("top_k", -1, std::numeric_limits<std::int32_t>::max()).value_or(0));
    if (const auto seed = fields.integer("seed", std::numeric_limits<std::int64_t>::min(),
                                         std::numeric_limits<std::int64_t>::max())) {
        r.seed = static_cast<std::uint64_t>(*seed);
    }
    r.n = fields.integer("n", 1, kMaxTexts).value_or(1);
    r.stop = stops(fields);
    r.stream = fields.boolean("stream");
    if (const Json* options = fields.find("stream_options")) {
        if (!options->is_object()) {
            refuse("stream_options", "expected an object, got {}", shown(*options));
        }
        for (const auto& [name, value] : options->items()) {
            if (name != "include_usage" || !value.is_boolean()) {
                refuse("stream_options",
                       "expected only \"include_usage\", true or false, got another member");
            }
            r.stream_usage = value.get<bool>();
        }
    }
    for (const char* name : {"user", "metadata", "service_tier"}) fields.ignore_if(name, anything);
    for (const char* name : {"frequency_penalty", "presence_penalty"})
        fields.ignore_if(name, is_zero);
    fields.ignore_if("logit_bias", is_empty);
}

std::vector<std::int32_t> token_ids(const Json& list) {
    std::vector<std::int32_t> ids;
    for (const Json& id : list) {
        const bool fits =
            id.is_number_integer() && id >= 0 && id <= std::numeric_limits<std::int32_t>::max();
        if (!fits) refuse("prompt", "expected token ids in a list of numbers, got {}", shown(id));
        ids.push_back(id.get<std::int32_t>());
    }
    return ids;
}

std::vector<Prompt> prompts(Fields& fields) {
    const Json* value = fields.find("prompt");
    if (!value) refuse("prompt", "expected a string, a list of strings, or token ids, got nothing");
    if (value->is_string()) return {value->get<std::string>()};
    if (!value->is_array() || value->empty()) {
        refuse("prompt", "expected a string, a list of strings, or token ids, got {}",
               shown(*value));
    }
    if (value->front().is_number()) return {token_ids(*value)};
    std::vector<Prompt> prompts;
    for (const Json& prompt : *value) {
        if (prompt.is_string()) {
            prompts.emplace_back(prompt.get<std::string>());
        } else if (prompt.is_array() && !prompt.empty()) {
            prompts.emplace_back(token_ids(prompt));
        } else {
            refuse("prompt", "expected strings or lists of token ids in the list, got {}",
                   shown(prompt));
        }
    }
    return prompts;
}

// A string, or parts of which all are texts.
std::string content(const Json& message, const std::string& field) {
    const auto found = message.find("content");
    if (found == message.end() || found->is_null()) {
        refuse(field, "expected \"content\", got none");
    }
    if (found->is_string()) return found->get<std::string>();
    if (!found->is_array()) {
        refuse(field, "expected \"content\" to be a string, got {}", shown(*found));
    }
    std::string text;
    for (const Json& part : *found) {
        const bool is_text = part.is_object() && part.contains("type") && part["type"] == "text" &&
                             part.contains("text") && part["text"].is_string();
        if (!is_text) {
            refuse(field,
                   "expected parts {{\"type\": \"text\", \"text\": ...}} in \"content\"; "
                   "images and sounds are not supported");
        }
        text += part["text"].get<std::string>();
    }
    return text;
}

std::vector<Message> messages(Fields& fields) {
    const Json* value = fields.find("messages");
    if (!value) refuse("messages", "expected a list of messages, got nothing");
    if (!value->is_array() || value->empty()) {
        refuse("messages", "expected a list of messages, got {}", shown(*value));
    }
    std::vector<Message> messages;
    for (const Json& message : *value) {
        const std::string field = fmt::format("messages[{}]", messages.size());
        if (!message.is_object()) refuse(field, "expected an object, got {}", shown(message));
        Message m;
        for (const auto& [name, member] : message.items()) {
            const bool known = name == "role" || name == "content" || name == "reasoning_content" ||
                               name == "name" || member.is_null() ||
                               (member.is_array() && member.empty());
            if (!known) refuse(field, "the member \"{}\" is not supported", valid_prefix(name, 60));
        }
        const Json role = message.value("role", Json());
        if (role != "system" && role != "developer" && role != "user" && role != "assistant") {
            refuse(field, "expected the \"role\" system, user or assistant, got {}", shown(role));
        }
        m.role = role == "developer" ? "system" : role.get<std::string>();
        m.content = content(message, field);
        if (const Json thought = message.value("reasoning_content", Json()); !thought.is_null()) {
            if (!thought.is_string()) {
                refuse(field, "expected \"reasoning_content\" to be a string, got {}",
                       shown(thought));
            }
            m.reasoning = thought.get<std::string>();
        }
        messages.push_back(std::move(m));
    }
    return messages;
}

}  // namespace

CompletionRequest parse_completion_request(std::string_view json) {
    Fields fields(json);
    CompletionRequest r;
    parse_common(fields, r);
    r.prompts = prompts(fields);
    r.echo = fields.boolean("echo");
    r.max_tokens = fields.integer("max_tokens", 0, kMaxTokens);
    if (r.max_tokens == 0 && !r.echo) {
        refuse("max_tokens", "expected at least 1 without \"echo\", got 0");
    }
    r.logprobs = fields.integer("logprobs", 0, kMaxTexts);
    fields.ignore_if("best_of", is_one);
    fields.ignore_if("suffix", is_empty);
    fields.finish();
    return r;
}

ChatRequest parse_chat_request(std::string_view json) {
    Fields fields(json);
    ChatRequest r;
    parse_common(fields, r);
    r.messages = messages(fields);
    const auto old_name = fields.integer("max_tokens", 1, kMaxTokens);
    const auto new_name = fields.integer("max_completion_tokens", 1, kMaxTokens);
    r.max_tokens = new_name ? new_name : old_name;
    const bool logprobs = fields.boolean("logprobs");
    const auto top = fields.integer("top_logprobs", 0, kMaxTexts);
    if (top && !logprobs) refuse("top_logprobs", "expected \"logprobs\": true beside it");
    if (logprobs) r.logprobs = top.value_or(0);
    for (const char* name : {"tools", "functions"}) fields.ignore_if(name, is_empty);
    for (const char* name : {"tool_choice", "function_call"}) fields.ignore_if(name, is_none);
    fields.ignore_if("response_format", is_text_format);
    fields.ignore_if("store", is_false);
    fields.ignore_if("parallel_tool_calls", anything);
    fields.finish();
    return r;
}

}  // namespace octavo
