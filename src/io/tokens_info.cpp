#include "io/tokens_info.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace octavo {

TokensInfo tokens_info(const std::filesystem::path& token_file) {
    const auto path = token_file.parent_path() / "tokens.json";
    if (!std::filesystem::exists(path)) return {};
    const auto json = nlohmann::json::parse(read_file(path), nullptr, false);
    const auto text = [&](const char* name) -> std::string {
        const auto at = json.find(name);
        return at != json.end() && at->is_string() ? at->get<std::string>() : "";
    };
    check(json.is_object() && !text("tokenizer").empty(),
          "{}: expected a JSON object with the field 'tokenizer'\n"
          "  Make the token files again with octavo tokenize.",
          path.string());
    // Files of bytes from before there were others have no fingerprint.
    TokensInfo info{.tokenizer = text("tokenizer"),
                    .fingerprint = text("fingerprint"),
                    .end_of_text = text("end_of_text_token")};
    if (const auto id = json.find("end_of_text"); id != json.end() && id->is_number_unsigned()) {
        info.end_of_text_id = id->get<std::int64_t>();
    }
    if (info.fingerprint.empty()) info.fingerprint = info.tokenizer;
    return info;
}

}  // namespace octavo
