#include "text/word_cache.h"

#include <gtest/gtest.h>

#include <string>

namespace octavo {
namespace {

using Ids = std::vector<std::int32_t>;

Ids find(WordCache& cache, const std::string& word) {
    const auto ids = cache.find(word);
    return {ids.begin(), ids.end()};
}

TEST(WordCache, RemembersWords) {
    WordCache cache;
    for (std::size_t n = 1; n <= WordCache::kLongestWord; ++n) {
        const std::string word(n, 'x');
        EXPECT_EQ(find(cache, word), Ids{});
        cache.add(word, Ids{static_cast<std::int32_t>(n), 7});
    }
    for (std::size_t n = 1; n <= WordCache::kLongestWord; ++n) {
        EXPECT_EQ(find(cache, std::string(n, 'x')), (Ids{static_cast<std::int32_t>(n), 7}));
    }
    EXPECT_EQ(find(cache, "y"), Ids{});
    EXPECT_EQ(find(cache, std::string("x\0", 2)), Ids{});
}

TEST(WordCache, StaysSmallAndRight) {
    WordCache cache;
    for (std::int32_t round = 0; round < 3; ++round) {
        for (std::int32_t i = 0; i < 100'000; ++i) {
            const std::string word = "word" + std::to_string(i);
            const Ids ids = find(cache, word);
            if (ids.empty()) {
                cache.add(word, Ids{i});
            } else {
                ASSERT_EQ(ids, Ids{i});
            }
            ASSERT_EQ(find(cache, word), Ids{i});
        }
    }
}

}  // namespace
}  // namespace octavo
