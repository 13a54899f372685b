#include "text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

namespace octavo {
namespace {

using Ids = std::vector<std::int32_t>;

std::array<std::int32_t, 256> bytes_as_ids() {
    std::array<std::int32_t, 256> ids{};
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
}

// The definition: the earliest merge that applies, at its leftmost place, until none does.
Ids by_definition(std::string_view word, const std::vector<Merge>& merges) {
    Ids ids(word.begin(), word.end());
    while (true) {
        bool merged = false;
        for (const Merge& m : merges) {
            for (std::size_t i = 0; i + 1 < ids.size() && !merged; ++i) {
                if (ids[i] != m.left || ids[i + 1] != m.right) continue;
                ids[i] = m.result;
                ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
                merged = true;
            }
            if (merged) break;
        }
        if (!merged) return ids;
    }
}

Ids encode(const Bpe& bpe, std::string_view word) {
    Bpe::Scratch scratch;
    Ids ids;
    bpe.encode(word, scratch, ids);
    return ids;
}

TEST(Bpe, MergesInTheOrderOfTheList) {
    const std::vector<Merge> merges = {{'b', 'c', 256}, {'a', 'b', 257}, {'a', 256, 258}};
    const Bpe bpe(bytes_as_ids(), merges);
    EXPECT_EQ(encode(bpe, "abc"), Ids{258});
    EXPECT_EQ(encode(bpe, "abb"), (Ids{257, 'b'}));
    EXPECT_EQ(encode(bpe, "x"), Ids{'x'});
    EXPECT_EQ(encode(bpe, ""), Ids{});
    EXPECT_EQ(encode(Bpe(bytes_as_ids(), {}), "ab"), (Ids{'a', 'b'}));
}

TEST(Bpe, EqualNeighboursMergeFromTheLeft) {
    const std::vector<Merge> merges = {{'a', 'a', 256}, {256, 256, 257}};
    const Bpe bpe(bytes_as_ids(), merges);
    for (std::size_t n = 1; n < 200; ++n) {
        ASSERT_EQ(encode(bpe, std::string(n, 'a')), by_definition(std::string(n, 'a'), merges))
            << n;
    }
}

TEST(Bpe, AgreesWithTheDefinition) {
    std::mt19937 random(1);
    for (int round = 0; round < 60; ++round) {
        std::vector<Merge> merges;
        const auto letter_or_token = [&] {
            const auto i = random() % (4 + merges.size());
            return i < 4 ? static_cast<std::int32_t>('a' + i) : static_cast<std::int32_t>(252 + i);
        };
        for (int i = 0; i < 30; ++i) {
            const std::int32_t left = letter_or_token(), right = letter_or_token();
            merges.push_back({left, right, 256 + i});
        }
        // Of equal pairs the last counts; the definition above takes the first.
        std::ranges::reverse(merges);
        std::vector<Merge> unique;
        for (const Merge& m : merges) {
            if (std::ranges::none_of(unique, [&](const Merge& u) {
                    return u.left == m.left && u.right == m.right;
                })) {
                unique.push_back(m);
            }
        }
        std::ranges::reverse(unique);
        std::ranges::reverse(merges);
        const Bpe bpe(bytes_as_ids(), merges);
        for (const std::size_t length : {1, 2, 3, 7, 47, 48, 49, 50, 130}) {
            std::string word;
            while (word.size() < length) word += static_cast<char>('a' + random() % 4);
            ASSERT_EQ(encode(bpe, word), by_definition(word, unique)) << word;
        }
    }
}

TEST(Bpe, LongWordsTakeNoQuadraticTime) {
    const Bpe bpe(bytes_as_ids(), std::vector<Merge>{{'a', 'a', 256}, {256, 256, 257}});
    EXPECT_EQ(encode(bpe, std::string(4 << 20, 'a')).size(), std::size_t{1} << 20);
}

}  // namespace
}  // namespace octavo
