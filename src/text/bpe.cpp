#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace octavo {
namespace {

// Up to here a look along all symbols finds the next merge faster than a heap does.
constexpr std::size_t kFew = 48;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const std::array<std::int32_t, 256>& byte_ids, std::span<const Merge> merges)
    : byte_ids_(byte_ids) {
    slots_.resize(std::bit_ceil(std::max<std::size_t>(2 * merges.size(), 16)), {0, kNone, 0});
    shift_ = 64 - std::countr_zero(slots_.size());
    results_.reserve(merges.size());
    for (const Merge& m : merges) {
        const std::uint64_t pair = pair_of(m.left, m.right);
        std::size_t i = home(pair);
        while (slots_[i].rank != kNone && slots_[i].pair != pair) i = (i + 1) & (slots_.size() - 1);
        slots_[i] = {pair, static_cast<std::uint32_t>(results_.size()), m.result};
        results_.push_back(m.result);
    }
}

// Fibonacci hashing: the high bits of the product depend on all bits of the pair.
std::size_t Bpe::home(std::uint64_t pair) const {
    return static_cast<std::size_t>((pair ^ (pair >> 29)) * 0x9E3779B97F4A7C15u >> shift_);
}

std::uint32_t Bpe::rank_of(std::int32_t left, std::int32_t right) const {
    const std::uint64_t pair = pair_of(left, right);
    for (std::size_t i = home(pair);; i = (i + 1) & (slots_.size() - 1)) {
        const Slot& slot = slots_[i];
        if (slot.rank == kNone || slot.pair == pair) return slot.rank;
    }
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& ids) const {
    if (word.empty()) return;
    auto& symbols = scratch.symbols_;
    symbols.resize(word.size());
    for (std::size_t i = 0; i < word.size(); ++i) {
        symbols[i].id = byte_ids_[static_cast<unsigned char>(word[i])];
    }
    for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        symbols[i].rank = rank_of(symbols[i].id, symbols[i + 1].id);
    }
    symbols.back().rank = kNone;
    word.size() <= kFew ? merge_few(scratch, ids) : merge_many(scratch, ids);
}

void Bpe::merge_few(Scratch& scratch, std::vector<std::int32_t>& ids) const {
    auto& symbols = scratch.symbols_;
    std::size_t n = symbols.size();
    while (true) {
        std::size_t best = 0;
        for (std::size_t i = 1; i < n; ++i) {
            if (symbols[i].rank < symbols[best].rank) best = i;
        }
        if (symbols[best].rank == kNone) break;
        symbols[best].id = results_[symbols[best].rank];
        --n;
        for (std::size_t i = best + 1; i < n; ++i) {
            symbols[i].id = symbols[i + 1].id;
            symbols[i].rank = symbols[i + 1].rank;
        }
        symbols[best].rank = best + 1 < n ? rank_of(symbols[best].id, symbols[best + 1].id) : kNone;
        if (best > 0) symbols[best - 1].rank = rank_of(symbols[best - 1].id, symbols[best].id);
    }
    for (std::size_t i = 0; i < n; ++i) ids.push_back(symbols[i].id);
}

// The heap holds (rank, position) of pairs. One is stale if the symbol there has another rank by
// now: ranks name pairs.
void Bpe::merge_many(Scratch& scratch, std::vector<std::int32_t>& ids) const {
    auto& symbols = scratch.symbols_;
    auto& heap = scratch.heap_;
    const auto end = static_cast<std::uint32_t>(symbols.size());
    heap.clear();
    for (std::uint32_t i = 0; i < end; ++i) {
        symbols[i].before = i - 1;
        symbols[i].after = i + 1;
        if (symbols[i].rank != kNone) heap.push_back(std::uint64_t{symbols[i].rank} << 32 | i);
    }
    std::ranges::make_heap(heap, std::greater());
    const auto set_rank = [&](std::uint32_t at) {
        auto& s = symbols[at];
        s.rank = s.after < end ? rank_of(s.id, symbols[s.after].id) : kNone;
        if (s.rank == kNone) return;
        heap.push_back(std::uint64_t{s.rank} << 32 | at);
        std::ranges::push_heap(heap, std::greater());
    };
    while (!heap.empty()) {
        std::ranges::pop_heap(heap, std::greater());
        const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
        const auto at = static_cast<std::uint32_t>(heap.back());
        heap.pop_back();
        auto& s = symbols[at];
        if (s.rank != rank) continue;
        auto& gone = symbols[s.after];
        gone.rank = kNone;
        s.id = results_[rank];
        s.after = gone.after;
        if (s.after < end) symbols[s.after].before = at;
        set_rank(at);
        if (at > 0) set_rank(s.before);
    }
    for (std::uint32_t i = 0; i < end; i = symbols[i].after) ids.push_back(symbols[i].id);
}

}  // namespace octavo
