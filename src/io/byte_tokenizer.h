// The byte-level tokenizer: token = byte, and one more id that ends a document. Nothing is lost:
// any bytes, UTF-8 or not, come back as they were.
//
// Models may pad their vocabulary (to 320, say); the ids past kVocabulary then never occur in data,
// and a sampler has to leave them out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octavo {

class ByteTokenizer {
  public:
    static constexpr std::string_view kName = "byte";
    static constexpr std::int32_t kEndOfText = 256;
    static constexpr std::int32_t kVocabulary = 257;

    // Appends the tokens of `text` to `tokens`. Adds no kEndOfText.
    static void encode(std::string_view text, std::vector<std::int32_t>& tokens);
    static std::vector<std::int32_t> encode(std::string_view text);

    // The bytes of `tokens`; kEndOfText has none. Throws Error for ids outside the vocabulary.
    static std::string decode(std::span<const std::int32_t> tokens);
};

}  // namespace octavo
