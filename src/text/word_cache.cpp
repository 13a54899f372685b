#include "text/word_cache.h"

#include <algorithm>
#include <cstring>

namespace octavo {
namespace {

constexpr std::size_t kSlots = std::size_t{1} << 16, kMostUsed = kSlots / 2;
constexpr std::size_t kMostData = std::size_t{1} << 20;  // int32

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    const std::uint64_t product = (a ^ b) * 0x9E3779B97F4A7C15u;
    return product ^ (product >> 32);
}

std::uint64_t load(const char* at, std::size_t bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, at, bytes);
    return value;
}

std::uint64_t hash_of(std::string_view word) {
    std::uint64_t hash = 0x243F6A8885A308D3u + word.size();
    const char* at = word.data();
    std::size_t left = word.size();
    for (; left > 8; left -= 8, at += 8) hash = mix(hash, load(at, 8));
    return mix(mix(hash, load(at, left)), 0x452821E638D01377u);
}

}  // namespace

WordCache::WordCache() : slots_(kSlots) { data_.reserve(std::size_t{1} << 16); }

std::span<const std::int32_t> WordCache::find(std::string_view word) {
    hash_ = hash_of(word);
    for (std::size_t i = hash_ & (kSlots - 1);; i = (i + 1) & (kSlots - 1)) {
        const Slot& slot = slots_[i];
        if (slot.bytes == 0) {
            free_ = i;
            return {};
        }
        if (slot.hash != static_cast<std::uint32_t>(hash_ >> 32) || slot.bytes != word.size()) {
            continue;
        }
        const std::int32_t* ids = data_.data() + slot.offset;
        if (std::memcmp(ids + slot.ids, word.data(), word.size()) == 0) return {ids, slot.ids};
    }
}

void WordCache::add(std::string_view word, std::span<const std::int32_t> ids) {
    const std::size_t words = (word.size() + 3) / 4;
    if (used_ == kMostUsed || data_.size() + ids.size() + words > kMostData) {
        forget();
        free_ = hash_ & (kSlots - 1);
    }
    const auto offset = static_cast<std::uint32_t>(data_.size());
    data_.insert(data_.end(), ids.begin(), ids.end());
    data_.resize(data_.size() + words);
    std::memcpy(data_.data() + offset + ids.size(), word.data(), word.size());
    slots_[free_] = {static_cast<std::uint32_t>(hash_ >> 32), offset,
                     static_cast<std::uint16_t>(word.size()),
                     static_cast<std::uint16_t>(ids.size())};
    ++used_;
}

void WordCache::forget() {
    std::ranges::fill(slots_, Slot{});
    data_.clear();
    used_ = 0;
}

}  // namespace octavo
