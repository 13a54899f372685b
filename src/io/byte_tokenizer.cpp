#include "io/byte_tokenizer.h"

#include <algorithm>

#include "base/error.h"

namespace octavo {

void ByteTokenizer::encode(std::string_view text, std::vector<std::int32_t>& tokens) {
    const std::size_t before = tokens.size();
    tokens.resize(before + text.size());
    std::transform(text.begin(), text.end(), tokens.data() + before,
                   [](char c) { return static_cast<std::int32_t>(static_cast<unsigned char>(c)); });
}

std::vector<std::int32_t> ByteTokenizer::encode(std::string_view text) {
    std::vector<std::int32_t> tokens;
    encode(text, tokens);
    return tokens;
}

std::string ByteTokenizer::decode(std::span<const std::int32_t> tokens) {
    std::string text;
    text.reserve(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const std::int32_t id = tokens[i];
        check(id >= 0 && id < kVocabulary,
              "byte tokenizer: expected token ids below {}, got {} at position {}\n"
              "  These tokens belong to another tokenizer.",
              kVocabulary, id, i);
        if (id != kEndOfText) text.push_back(static_cast<char>(id));
    }
    return text;
}

}  // namespace octavo
