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

std::vector<std::int32_t> prompt_begin(const Tokenizer& tokenizer, bool after_end_of_text) {
    std::vector<std::int32_t> ids(tokenizer.begin().begin(), tokenizer.begin().end());
    const auto end_of_text = tokenizer.end_of_text();
    if (ids.empty() && end_of_text && after_end_of_text) ids.push_back(*end_of_text);
    return ids;
}

std::vector<std::int32_t> prompt_ids(const Tokenizer& tokenizer, std::string_view text,
                                     bool after_end_of_text) {
    std::vector<std::int32_t> ids = prompt_begin(tokenizer, after_end_of_text || text.empty());
    tokenizer.encoder()->encode(text, ids);
    return ids;
}

}  // namespace octavo
