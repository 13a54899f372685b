#include "io/token_lines.h"

#include <fmt/format.h>

#include "base/error.h"
#include "io/input_file.h"
#include "io/json_records.h"
#include "io/json_text.h"
#include "text/each.h"
#include "text/json_reader.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

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

// For messages: a value may be as long as its line.
std::string shown(const Json& value) {
    if (value.is_number_integer()) return fmt::format("{}", value.get<std::int64_t>());
    if (value.is_number_float()) return fmt::format("{}", value.get<double>());
    return value.type_name();
}

std::vector<std::int32_t> ids_of(std::string_view line) {
    const Json json = read_json(line);
    std::vector<std::int32_t> ids;
    for (const Json& id : list_in(json, "ids")) {
        const auto value = id.is_number_integer() ? id.get<std::int64_t>() : -1;
        if (value < 0 || value > INT32_MAX) {
            fail("expected token ids in 'ids', got {} at position {}", shown(id), ids.size());
        }
        ids.push_back(static_cast<std::int32_t>(value));
    }
    return ids;
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

void encode_chats(const std::filesystem::path& file, const std::string& column,
                  const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                  const WriteLine& write) {
    chat_template.check_tokenizer(tokenizer);
    const auto encoders = tokenizer.encoders();
    convert_lines(file, write, [&](std::size_t thread, std::string_view line) {
        const ChatTokens tokens =
            chat_template.encode(json_chat(line, column), false, tokenizer, *encoders[thread]);
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
