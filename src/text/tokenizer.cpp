#include "text/tokenizer.h"

#include "base/error.h"
#include "base/parallel.h"

namespace octavo {

std::vector<std::unique_ptr<Encoder>> Tokenizer::encoders() const {
    std::vector<std::unique_ptr<Encoder>> encoders;
    for (int i = 0; i < thread_count(); ++i) encoders.push_back(encoder());
    return encoders;
}

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
