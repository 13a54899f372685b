#include "io/tokens_info.h"

#include "base/error.h"
#include "base/file.h"
#include "io/json_text.h"

namespace octavo {

std::string tokenizer_name(const std::filesystem::path& token_file) {
    const auto path = token_file.parent_path() / "tokens.json";
    if (!std::filesystem::exists(path)) return "";
    try {
        return json_text_field(read_file(path), "tokenizer");
    } catch (const Error& e) {
        throw e.in(path.string());
    }
}

}  // namespace octavo
