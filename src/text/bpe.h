// Byte-pair encoding of one word: its bytes are tokens, and of all neighbours that a merge names,
// those of the earliest merge (the leftmost, among equals) become one token, until no merge names
// any.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace octavo {

struct Merge {
    std::int32_t left = 0, right = 0, result = 0;
    bool operator==(const Merge&) const = default;
};

class Bpe {
  public:
    // Memory that a thread keeps between words.
    class Scratch {
        friend class Bpe;
        struct Symbol {
            std::int32_t id;
            std::uint32_t rank;  // of the merge with the next symbol
            std::uint32_t before, after;
        };
        std::vector<Symbol> symbols_;
        std::vector<std::uint64_t> heap_;
    };

    Bpe() = default;
    // `byte_ids`: the token of every byte. `merges` in their order; of equal pairs the last counts.
    Bpe(const std::array<std::int32_t, 256>& byte_ids, std::span<const Merge> merges);

    // Appends the tokens of `word`, in time O(n log n).
    void encode(std::string_view word, Scratch&, std::vector<std::int32_t>& ids) const;

  private:
    // A hash table without chains. Free slots have rank kNone.
    struct Slot {
        std::uint64_t pair;
        std::uint32_t rank;
        std::int32_t result;
    };
    static constexpr std::uint32_t kNone = ~std::uint32_t{0};

    std::size_t home(std::uint64_t pair) const;
    std::uint32_t rank_of(std::int32_t left, std::int32_t right) const;
    void merge_few(Scratch&, std::vector<std::int32_t>& ids) const;
    void merge_many(Scratch&, std::vector<std::int32_t>& ids) const;

    std::array<std::int32_t, 256> byte_ids_{};
    std::vector<Slot> slots_;            // a power of two
    int shift_ = 63;                     // of a 64-bit hash, to slots
    std::vector<std::int32_t> results_;  // by rank
};

}  // namespace octavo
