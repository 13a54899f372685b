#include "io/permutation.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace octavo {
namespace {

class PermutationOf : public testing::TestWithParam<std::uint64_t> {};

TEST_P(PermutationOf, VisitsEveryElementOnce) {
    for (const std::uint64_t stream : {0, 1, 77}) {
        const Permutation order(GetParam(), 42, stream);
        std::vector<int> visits(GetParam());
        for (std::uint64_t i = 0; i < GetParam(); ++i) {
            ASSERT_LT(order(i), GetParam());
            ++visits[order(i)];
        }
        for (const int n : visits) ASSERT_EQ(n, 1);
    }
}

INSTANTIATE_TEST_SUITE_P(Sizes, PermutationOf,
                         testing::Values(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 17, 31, 63, 64,
                                         65, 97, 100, 127, 255, 256, 257, 1000, 1009, 1023, 1024,
                                         4095, 4096, 4097, 9973, 65536, 65537));

TEST(Permutation, IsUniformForSmallSizes) {
    // Over many keys every element must land everywhere equally often. Standard deviation of a
    // count of 2000 is about 41; 6 of them leave one false alarm in 10^8.
    for (const std::uint64_t n : {2, 3, 5, 7, 10}) {
        const int each = 2000;
        std::vector<int> counts(n * n);
        for (std::uint64_t key = 0; key < each * n; ++key) {
            const Permutation order(n, 7, key);
            for (std::uint64_t i = 0; i < n; ++i) ++counts[i * n + order(i)];
        }
        for (const int count : counts) EXPECT_NEAR(count, each, 250) << n;
    }
}

TEST(Permutation, SeparatesNeighbours) {
    const std::uint64_t n = 100000;
    const Permutation order(n, 1, 2);
    int adjacent = 0, fixed = 0;
    for (std::uint64_t i = 0; i + 1 < n; ++i) {
        adjacent += order(i) + 1 == order(i + 1);
        fixed += order(i) == i;
    }
    // Both are Poisson with mean 1 for a random permutation.
    EXPECT_LT(adjacent, 10);
    EXPECT_LT(fixed, 10);
}

TEST(Permutation, DependsOnSeedAndStream) {
    const std::uint64_t n = 1000;
    const Permutation a(n, 1, 1), b(n, 1, 2), c(n, 2, 1), again(n, 1, 1);
    int same_b = 0, same_c = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
        EXPECT_EQ(a(i), again(i));
        same_b += a(i) == b(i);
        same_c += a(i) == c(i);
    }
    EXPECT_LT(same_b, 12);
    EXPECT_LT(same_c, 12);
}

TEST(Permutation, HandlesHugeSizes) {
    const std::uint64_t n = (std::uint64_t{1} << 61) + 1;
    const Permutation order(n, 3, 4);
    EXPECT_LT(order(0), n);
    EXPECT_LT(order(n - 1), n);
    EXPECT_NE(order(0), order(n - 1));
    EXPECT_THROW(Permutation(0, 0, 0), Error);
    EXPECT_THROW(Permutation(std::uint64_t{1} << 62, 0, 0), Error);
}

}  // namespace
}  // namespace octavo
