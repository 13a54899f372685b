#include "io/json_records.h"

#include "base/error.h"
#include "text/json_reader.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

Message message_of(const Json& m) {
    const auto text = [&](const char* name) {
        check(m.is_object() && m.contains(name) && m[name].is_string(),
              "expected an object with a string in the field '{}'", name);
        return m[name].get<std::string>();
    };
    Message message{text("role"), text("content")};
    for (const auto& [key, value] : m.items()) {
        if (key == "role" || key == "content" || value.is_null()) continue;
        check(key == "reasoning_content",
              "expected the fields 'role', 'content' and 'reasoning_content', got '{}', which is "
              "not supported\n"
              "  Leave it out, or put what the model is to read into 'content'.",
              key);
        message.reasoning = text("reasoning_content");
    }
    return message;
}

}  // namespace

std::vector<Message> json_chat(std::string_view line, const std::string& column) {
    const Json json = read_json(line);
    // A chat template would write them; other fields of the line say nothing to it.
    for (const char* name : {"tools", "documents", "chat_template_kwargs"}) {
        check(!json.contains(name) || json[name].is_null(),
              "expected a chat of messages alone, got the field '{}', which is not supported\n"
              "  Leave it out, or put what the model is to read into a message.",
              name);
    }
    std::vector<Message> chat;
    for (const Json& m : list_in(json, column)) {
        try {
            chat.push_back(message_of(m));
        } catch (const Error& error) {
            throw error.in(fmt::format("message {}", chat.size() + 1));
        }
    }
    return chat;
}

}  // namespace octavo
