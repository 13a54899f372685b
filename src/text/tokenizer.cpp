#include "text/tokenizer.h"

#include "base/error.h"

namespace octavo {

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    encoder()->encode(text, ids);
    return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
    std::string text;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        try {
            text += bytes(ids[i]);
        } catch (const Error& error) {
            throw error.in(fmt::format("position {}", i));
        }
    }
    return text;
}

}  // namespace octavo
