#include "text/byte_tokenizer.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace octavo {
namespace {

constexpr auto kBytes = [] {
    std::array<char, 256> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
    return bytes;
}();

class ByteEncoder final : public Encoder {
  public:
    void encode(std::string_view text, std::vector<std::int32_t>& ids) override {
        const std::size_t before = ids.size();
        ids.resize(before + text.size());
        std::ranges::transform(text, ids.data() + before, [](char c) {
            return static_cast<std::int32_t>(static_cast<unsigned char>(c));
        });
    }
};

}  // namespace

std::string_view ByteTokenizer::bytes(std::int32_t id) const {
    check(is_token(id),
          "byte tokenizer: expected token ids below {}, got {}\n"
          "  These tokens belong to another tokenizer.",
          kVocabulary, id);
    if (id == kEndOfText) return {};
    return {kBytes.data() + id, 1};
}

std::unique_ptr<Encoder> ByteTokenizer::encoder() const { return std::make_unique<ByteEncoder>(); }

}  // namespace octavo
