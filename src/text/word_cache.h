// The tokens of words seen before. Text repeats its words, and a look here is much faster than
// merging.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace octavo {

// At most some megabytes: when it is full it forgets everything.
class WordCache {
  public:
    static constexpr std::size_t kLongestWord = 64;  // bytes; longer ones hardly come twice

    WordCache();

    // The tokens of `word`, which is not longer than kLongestWord and not empty; empty if it is not
    // known. Valid until the next `add`.
    std::span<const std::int32_t> find(std::string_view word);
    // Of the word that `find` did not find last.
    void add(std::string_view word, std::span<const std::int32_t> ids);

  private:
    struct Slot {
        std::uint32_t hash = 0;    // of the word, other bits than those of its place
        std::uint32_t offset = 0;  // in data_: the tokens, then the bytes
        std::uint16_t bytes = 0;   // 0: free
        std::uint16_t ids = 0;
    };
    void forget();

    std::vector<Slot> slots_;
    std::vector<std::int32_t> data_;
    std::size_t used_ = 0;  // slots
    std::uint64_t hash_ = 0;
    std::size_t free_ = 0;  // slot of the last word not found
};

}  // namespace octavo
