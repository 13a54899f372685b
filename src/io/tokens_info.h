// What is known about a token file besides its tokens: the tokens.json that `tokenize` left with
// it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace octavo {

struct TokensInfo {
    std::string tokenizer = {};        // "byte", "bpe"; empty if nothing is known
    std::string fingerprint = {};      // of the tokenizer
    std::string end_of_text = {};      // text of the token that ends documents; empty for bytes
    std::int64_t end_of_text_id = -1;  // its id; -1 if it is not known

    bool operator==(const TokensInfo&) const = default;
};

// Throws Error for a damaged tokens.json.
TokensInfo tokens_info(const std::filesystem::path& token_file);

}  // namespace octavo
