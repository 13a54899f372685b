// The blocks of a paged key-value cache: who holds which, which are free, and the prefix cache,
// which finds blocks by what they hold. Numbers only; the memory is the engine's. (Kwon et al.,
// "Efficient memory management for large language model serving with PagedAttention",
// arXiv:2309.06180.)
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace octavo {

// How many blocks of `block` tokens fit in `pool_bytes`.
std::int64_t kv_blocks(std::int64_t pool_bytes, std::int64_t bytes_per_token, std::int64_t block);

class BlockPool {
  public:
    // A text that fills whole blocks, by number. Numbers are never given twice, so equal numbers
    // mean equal texts, whatever the hashes. 0 is the empty text.
    using Prefix = std::uint64_t;

    BlockPool(std::int64_t blocks, std::int64_t block);
    BlockPool(BlockPool&&) = default;

    std::int64_t size() const { return std::ssize(blocks_); }
    std::int64_t block() const { return block_; }  // tokens of one
    std::int64_t free() const { return std::ssize(free_); }
    std::int64_t references(std::int32_t b) const { return blocks_[b].references; }
    // Since the start: how often a block left the free queue and came back to it.
    std::int64_t allocated() const { return allocated_; }
    std::int64_t freed() const { return freed_; }

    // The block that has been free for longest, which loses its content. free() must not be 0.
    std::int32_t allocate();
    // One reference more to a block that find() returned; it may be a free one.
    void share(std::int32_t b);
    // One reference less. A block without any is free, but can be found until it is allocated.
    void release(std::int32_t b);

    // The block that holds the block() tokens after `before`.
    std::optional<std::int32_t> find(Prefix before, std::span<const std::int32_t> tokens) const;
    // Block `b` can be found from now on, unless another one holds the same. Returns the prefix
    // that ends with it.
    Prefix remember(std::int32_t b, Prefix before, std::span<const std::int32_t> tokens);
    // The prefix that ends with a block that find() returned.
    Prefix prefix(std::int32_t b) const { return blocks_[b].prefix; }
    void forget(std::int32_t b);
    void forget_all();

  private:
    struct Content {
        Prefix before = 0;
        std::span<const std::int32_t> tokens;
        bool operator==(const Content&) const;
    };
    struct Hash {
        std::size_t operator()(const Content&) const;
    };
    struct Block {
        std::int64_t references = 0;
        Prefix prefix = 0;  // 0: it cannot be found
        Content content;
        std::list<std::int32_t>::iterator place;  // in free_ or used_
    };

    void use(Block&);

    std::int64_t block_;
    std::vector<Block> blocks_;
    std::vector<std::int32_t> tokens_;     // what the contents refer to, by block
    std::list<std::int32_t> free_, used_;  // free_ in the order of allocation
    std::unordered_map<Content, std::int32_t, Hash> found_;
    Prefix prefixes_ = 0;
    std::int64_t allocated_ = 0, freed_ = 0;
};

}  // namespace octavo
