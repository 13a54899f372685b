#include "engine/block_pool.h"

#include <algorithm>

#include "base/error.h"

namespace octavo {

std::int64_t kv_blocks(std::int64_t pool_bytes, std::int64_t bytes_per_token, std::int64_t block) {
    check(pool_bytes >= 0 && bytes_per_token > 0 && block > 0,
          "a key-value pool of {} bytes with {} bytes for each token and {} tokens in a block: the "
          "pool must not be negative and the other two must be positive",
          pool_bytes, bytes_per_token, block);
    return pool_bytes / (bytes_per_token * block);
}

bool BlockPool::Content::operator==(const Content& o) const {
    return before == o.before && std::ranges::equal(tokens, o.tokens);
}

std::size_t BlockPool::Hash::operator()(const Content& c) const {
    std::uint64_t h = c.before;
    for (const std::int32_t token : c.tokens) {
        h = (h ^ static_cast<std::uint32_t>(token)) * 0x9E3779B97F4A7C15;
        h ^= h >> 32;
    }
    return h;
}

BlockPool::BlockPool(std::int64_t blocks, std::int64_t block)
    : block_(block),
      blocks_(static_cast<std::size_t>(blocks)),
      tokens_(static_cast<std::size_t>(blocks * block)) {
    for (std::int32_t b = 0; b < blocks; ++b) blocks_[b].place = free_.insert(free_.end(), b);
}

void BlockPool::use(Block& block) {
    if (block.references++ > 0) return;
    used_.splice(used_.end(), free_, block.place);
    ++allocated_;
}

std::int32_t BlockPool::allocate() {
    const std::int32_t b = free_.front();
    forget(b);
    use(blocks_[b]);
    return b;
}

void BlockPool::share(std::int32_t b) { use(blocks_[b]); }

void BlockPool::release(std::int32_t b) {
    Block& block = blocks_[b];
    if (--block.references > 0) return;
    free_.splice(free_.end(), used_, block.place);
    ++freed_;
}

std::optional<std::int32_t> BlockPool::find(Prefix before,
                                            std::span<const std::int32_t> tokens) const {
    const auto at = found_.find({before, tokens});
    if (at == found_.end()) return std::nullopt;
    return at->second;
}

BlockPool::Prefix BlockPool::remember(std::int32_t b, Prefix before,
                                      std::span<const std::int32_t> tokens) {
    if (const auto other = find(before, tokens)) return prefix(*other);
    Block& block = blocks_[b];
    const auto copy = tokens_.begin() + b * block_;
    std::ranges::copy(tokens, copy);
    block.content = {before, {copy, tokens.size()}};
    block.prefix = ++prefixes_;
    found_.emplace(block.content, b);
    return block.prefix;
}

void BlockPool::forget(std::int32_t b) {
    Block& block = blocks_[b];
    if (block.prefix == 0) return;
    found_.erase(block.content);
    block.prefix = 0;
}

void BlockPool::forget_all() {
    found_.clear();
    for (Block& block : blocks_) block.prefix = 0;
}

}  // namespace octavo
