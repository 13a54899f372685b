#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "text/chat_template.h"
#include "text/json_reader.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLongest = 16 << 20;

// Empty if there is none.
std::string text_in(const Json& object, const char* name) {
    const auto at = object.find(name);
    if (at == object.end() || at->is_null()) return {};
    check(at->is_string(), "expected a string in '{}', got {}", name, at->type_name());
    return at->get<std::string>();
}

// A token is a string or an object with one.
std::string token_text(const Json& config, const char* name) {
    const auto at = config.find(name);
    if (at == config.end() || !at->is_object()) return text_in(config, name);
    try {
        return text_in(*at, "content");
    } catch (const Error& error) {
        throw error.in(name);
    }
}

// A template is a string, or one of a list of named ones, of which "default" is for chats.
std::optional<std::string> template_text(const Json& config) {
    const auto at = config.find("chat_template");
    if (at == config.end() || at->is_null()) return std::nullopt;
    if (at->is_string()) return at->get<std::string>();
    check(at->is_array(), "expected a string or a list in 'chat_template', got {}",
          at->type_name());
    for (const Json& entry : *at) {
        if (!entry.is_object() || text_in(entry, "name") != "default") continue;
        return text_in(entry, "template");
    }
    fail("'chat_template' has no template named 'default'");
}

}  // namespace

std::optional<ChatTemplate> read_chat_template(const std::filesystem::path& folder) {
    const auto config_path = folder / "tokenizer_config.json";
    const auto jinja_path = folder / "chat_template.jinja";
    Json config = Json::object();
    std::filesystem::path path = config_path;
    try {
        if (std::filesystem::exists(config_path)) {
            config = read_json(read_file(config_path, kLongest));
        }
        std::string begin = token_text(config, "bos_token");
        std::optional<std::string> jinja;
        if (std::filesystem::exists(jinja_path)) {
            path = jinja_path;
            jinja = read_file(jinja_path, kLongest);
        } else {
            jinja = template_text(config);
        }
        if (!jinja) return std::nullopt;
        return ChatTemplate::recognise(*jinja, std::move(begin));
    } catch (const Error& error) {
        throw error.in(path.string());
    }
}

}  // namespace octavo
