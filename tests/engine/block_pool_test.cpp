#include "engine/block_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "base/error.h"

namespace octavo {
namespace {

using Tokens = std::vector<std::int32_t>;

TEST(BlockPool, CountsTheBlocksOfAPool) {
    // Qwen3-8B: 2 * 36 layers * 8 heads * 128 numbers, in BF16 and in E4M3.
    EXPECT_EQ(kv_blocks(36'856'922'112, 147'456, 16), 15'622);
    EXPECT_EQ(kv_blocks(36'856'922'112, 73'728, 16), 31'244);
    EXPECT_EQ(kv_blocks(44'140'068'864, 147'456, 16), 18'709);
    EXPECT_EQ(kv_blocks(44'140'068'864, 73'728, 16), 37'418);
    EXPECT_EQ(kv_blocks(0, 73'728, 16), 0);
    EXPECT_THROW(kv_blocks(-1, 73'728, 16), Error);
    EXPECT_THROW(kv_blocks(1, 0, 16), Error);
    EXPECT_THROW(kv_blocks(1, 1, 0), Error);
}

TEST(BlockPool, AllocatesWhatWasFreeForLongest) {
    BlockPool pool(3, 2);
    EXPECT_EQ(pool.allocate(), 0);
    EXPECT_EQ(pool.allocate(), 1);
    pool.release(0);
    EXPECT_EQ(pool.free(), 2);
    EXPECT_EQ(pool.allocate(), 2);
    EXPECT_EQ(pool.allocate(), 0);
    EXPECT_EQ(pool.free(), 0);
    EXPECT_EQ(pool.allocated(), 4);
    EXPECT_EQ(pool.freed(), 1);
}

TEST(BlockPool, FindsAFreeBlockUntilItIsAllocated) {
    BlockPool pool(2, 2);
    const std::int32_t b = pool.allocate();
    pool.remember(b, 0, Tokens{5, 6});
    pool.release(b);
    EXPECT_EQ(pool.find(0, Tokens{5, 6}), b);
    pool.share(b);  // takes it out of the queue
    EXPECT_EQ(pool.free(), 1);
    EXPECT_EQ(pool.references(b), 1);
    pool.share(b);
    pool.release(b);
    EXPECT_EQ(pool.references(b), 1);
    pool.release(b);
    EXPECT_EQ(pool.free(), 2);
    pool.allocate();
    EXPECT_EQ(pool.find(0, Tokens{5, 6}), b);
    EXPECT_EQ(pool.allocate(), b);
    EXPECT_EQ(pool.find(0, Tokens{5, 6}), std::nullopt);
}

TEST(BlockPool, TellsPrefixesApart) {
    BlockPool pool(4, 2);
    const auto a = pool.remember(pool.allocate(), 0, Tokens{5, 6});
    const auto b = pool.remember(pool.allocate(), a, Tokens{5, 6});
    EXPECT_NE(a, b);
    EXPECT_EQ(pool.find(0, Tokens{5, 6}), 0);
    EXPECT_EQ(pool.find(a, Tokens{5, 6}), 1);
    EXPECT_EQ(pool.find(b, Tokens{5, 6}), std::nullopt);
    EXPECT_EQ(pool.find(0, Tokens{6, 5}), std::nullopt);
    EXPECT_EQ(pool.prefix(1), b);
}

TEST(BlockPool, AHashCollisionIsNoHit) {
    BlockPool pool(3, 1);
    EXPECT_EQ(pool.remember(pool.allocate(), 0, Tokens{8}), 1u);
    EXPECT_EQ(pool.remember(pool.allocate(), 0, Tokens{9}), 2u);
    pool.remember(pool.allocate(), 1, Tokens{2});
    EXPECT_EQ(pool.find(1, Tokens{2}), 2);
    EXPECT_EQ(pool.find(2, Tokens{1}), std::nullopt);  // the hash starts from 1 ^ 2, too
}

TEST(BlockPool, TheFirstOfEqualBlocksIsFound) {
    BlockPool pool(2, 2);
    const auto prefix = pool.remember(pool.allocate(), 0, Tokens{5, 6});
    EXPECT_EQ(pool.remember(pool.allocate(), 0, Tokens{5, 6}), prefix);
    pool.forget(1);  // does not take the other along
    EXPECT_EQ(pool.find(0, Tokens{5, 6}), 0);
    pool.forget(0);
    EXPECT_EQ(pool.find(0, Tokens{5, 6}), std::nullopt);
}

TEST(BlockPool, AForgottenPrefixNeverComesBack) {
    BlockPool pool(3, 2);
    const auto old = pool.remember(pool.allocate(), 0, Tokens{5, 6});
    pool.remember(pool.allocate(), old, Tokens{7, 8});
    pool.forget_all();
    EXPECT_EQ(pool.find(0, Tokens{5, 6}), std::nullopt);
    EXPECT_EQ(pool.find(old, Tokens{7, 8}), std::nullopt);
    EXPECT_NE(pool.remember(pool.allocate(), 0, Tokens{5, 6}), old);
}

}  // namespace
}  // namespace octavo
