#include "io/token_lines.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/input_file.h"
#include "io/json_text.h"
#include "text/each.h"

namespace octavo {
namespace {

constexpr std::size_t kLongestLine = std::size_t{256} << 20;
constexpr std::size_t kBatchBytes = std::size_t{4} << 20;

// Writes convert(thread, line) for every line that is not blank, in order. Converts on all threads,
// and puts file and line before errors.
template <class Convert>
void convert_lines(const std::filesystem::path& file, const WriteLine& write, Convert&& convert) {
    struct Line {
        std::int64_t number;
        std::string text;
    };
    std::vector<Line> batch;
    std::vector<std::string> converted;
    std::size_t bytes = 0;
    const auto flush = [&] {
        converted.resize(batch.size());
        for_each_item(batch.size(), [&](std::size_t thread, std::size_t i) {
            try {
                check(batch[i].text.size() <= kLongestLine, "longer than {} bytes", kLongestLine);
                converted[i] = convert(thread, batch[i].text);
            } catch (const Error& error) {
                throw error.in(fmt::format("{}: line {}", file.string(), batch[i].number));
            }
        });
        for (const std::string& line : converted) write(line);
        batch.clear();
        bytes = 0;
    };
    LineReader lines(file);
    for (std::string_view line; !(line = lines.next(kLongestLine + 1)).empty();) {
        if (line.find_first_not_of(" \t\r\n") == line.npos) continue;
        batch.push_back({lines.line(), std::string(line)});
        bytes += line.size();
        if (bytes >= kBatchBytes) flush();
    }
    flush();
}

std::vector<std::int32_t> ids_of(std::string_view line) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    check(!json.is_discarded(), "not valid JSON");
    check(json.is_object() && json.contains("ids") && json["ids"].is_array(),
          "expected an object with a list in the field 'ids'");
    std::vector<std::int32_t> ids;
    for (const auto& id : json["ids"]) {
        check(id.is_number_integer() && id >= 0 && id <= INT32_MAX,
              "expected token ids in 'ids', got {}", id.dump());
        ids.push_back(id.get<std::int32_t>());
    }
    return ids;
}

std::vector<Message> chat_of(std::string_view line) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    check(!json.is_discarded(), "not valid JSON");
    check(json.is_object() && json.contains("messages") && json["messages"].is_array(),
          "expected an object with a list in the field 'messages'");
    std::vector<Message> chat;
    for (const auto& m : json["messages"]) {
        const auto text = [&](const char* name) {
            check(m.is_object() && m.contains(name) && m[name].is_string(),
                  "message {}: expected an object with a string in the field '{}'", chat.size() + 1,
                  name);
            return m[name].get<std::string>();
        };
        chat.push_back({text("role"), text("content")});
    }
    return chat;
}

}  // namespace

void encode_lines(const std::filesystem::path& file, const std::string& column,
                  const Tokenizer& tokenizer, const WriteLine& write) {
    const auto encoders = tokenizer.encoders();
    convert_lines(file, write, [&](std::size_t thread, std::string_view line) {
        std::vector<std::int32_t> ids;
        encoders[thread]->encode(json_text_field(line, column), ids);
        return fmt::format("{{\"ids\": [{}]}}\n", fmt::join(ids, ", "));
    });
}

void encode_chats(const std::filesystem::path& file, const ChatTemplate& chat_template,
                  const Tokenizer& tokenizer, const WriteLine& write) {
    const auto encoders = tokenizer.encoders();
    convert_lines(file, write, [&](std::size_t thread, std::string_view line) {
        const ChatTokens tokens =
            chat_template.encode(chat_of(line), false, tokenizer, *encoders[thread]);
        return fmt::format("{{\"ids\": [{}], \"learn\": [{:d}]}}\n", fmt::join(tokens.ids, ", "),
                           fmt::join(tokens.learn, ", "));
    });
}

void decode_lines(const std::filesystem::path& file, const Tokenizer& tokenizer,
                  const WriteLine& write) {
    convert_lines(file, write, [&](std::size_t, std::string_view line) {
        return fmt::format("{{\"text\": {}}}\n", json_quote(tokenizer.decode(ids_of(line))));
    });
}

}  // namespace octavo
