// What is known about a token file besides its tokens: the tokens.json that `tokenize` left with
// it.
#pragma once

#include <filesystem>
#include <string>

namespace octavo {

// The tokenizer's name, "byte"; empty if nothing is known. Throws Error for a damaged tokens.json.
std::string tokenizer_name(const std::filesystem::path& token_file);

}  // namespace octavo
