#include "io/token_lines.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/input_file.h"
#include "io/json_text.h"
#include "text/batch_encoder.h"

namespace octavo {
namespace {

constexpr std::size_t kLongestLine = std::size_t{256} << 20;
constexpr std::size_t kBatchBytes = std::size_t{4} << 20;

// Calls `take` with every line that is not blank, and puts file and line before its errors.
template <class Take>
void each_line(const std::filesystem::path& file, Take&& take) {
    LineReader lines(file);
    while (true) {
        const std::string_view line = lines.next(kLongestLine + 1);
        if (line.empty()) return;
        if (line.find_first_not_of(" \t\r\n") == line.npos) continue;
        try {
            check(line.size() <= kLongestLine, "longer than {} bytes", kLongestLine);
            take(line);
        } catch (const Error& error) {
            throw error.in(fmt::format("{}: line {}", file.string(), lines.line()));
        }
    }
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

}  // namespace

void encode_lines(const std::filesystem::path& file, const std::string& column,
                  const Tokenizer& tokenizer, const WriteLine& write) {
    BatchEncoder encoder(tokenizer);
    std::vector<std::string> texts;
    std::vector<std::vector<std::int32_t>> ids;
    std::size_t bytes = 0;
    const auto flush = [&] {
        encoder.encode(texts, ids);
        for (const auto& of_text : ids)
            write(fmt::format("{{\"ids\": [{}]}}\n", fmt::join(of_text, ", ")));
        texts.clear();
        bytes = 0;
    };
    each_line(file, [&](std::string_view line) {
        texts.push_back(json_text_field(line, column));
        bytes += line.size();
        if (bytes >= kBatchBytes) flush();
    });
    flush();
}

void decode_lines(const std::filesystem::path& file, const Tokenizer& tokenizer,
                  const WriteLine& write) {
    each_line(file, [&](std::string_view line) {
        write(fmt::format("{{\"text\": {}}}\n", json_quote(tokenizer.decode(ids_of(line)))));
    });
}

}  // namespace octavo
