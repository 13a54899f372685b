// The byte-level tokenizer: token = byte, and one more id that ends a document. Nothing is lost:
// any bytes, UTF-8 or not, come back as they were. The end of text has no bytes.
#pragma once

#include "text/tokenizer.h"

namespace octavo {

class ByteTokenizer final : public Tokenizer {
  public:
    static constexpr std::int32_t kEndOfText = 256;
    static constexpr std::int32_t kVocabulary = 257;

    std::string_view kind() const override { return "byte"; }
    std::string fingerprint() const override { return "byte"; }
    std::int32_t vocabulary() const override { return kVocabulary; }
    std::optional<std::int32_t> end_of_text() const override { return kEndOfText; }
    std::span<const std::int32_t> begin() const override { return {}; }
    std::optional<std::int32_t> special(std::string_view) const override { return std::nullopt; }
    bool is_token(std::int32_t id) const override { return id >= 0 && id < kVocabulary; }
    std::string_view bytes(std::int32_t id) const override;
    std::unique_ptr<Encoder> encoder() const override;
};

}  // namespace octavo
