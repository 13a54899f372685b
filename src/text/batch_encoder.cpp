#include "text/batch_encoder.h"

#include "text/each.h"

namespace octavo {

BatchEncoder::BatchEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

void BatchEncoder::encode(std::span<const std::string> texts,
                          std::vector<std::vector<std::int32_t>>& ids) {
    ids.resize(texts.size());
    const auto threads = static_cast<std::size_t>(thread_count());
    while (encoders_.size() < threads) encoders_.push_back(tokenizer_.encoder());
    for_each_item(texts.size(), [&](std::size_t thread, std::size_t i) {
        ids[i].clear();
        encoders_[thread]->encode(texts[i], ids[i]);
    });
}

}  // namespace octavo
