#include "base/rng.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

// Known answers of Random123 1.14, philox4x32-10.
TEST(Philox, KnownAnswers) {
    EXPECT_EQ(philox(0, 0, 0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(philox(~0ull, ~0ull, ~0ull),
              (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Rng, NormalHasUnitMoments) {
    const Rng rng(7, 1);
    double sum = 0, squares = 0;
    const int n = 100000;
    for (int i = 0; i < n; ++i) {
        const double x = rng.normal(i);
        sum += x;
        squares += x * x;
    }
    EXPECT_NEAR(sum / n, 0.0, 0.02);
    EXPECT_NEAR(squares / n, 1.0, 0.02);
}

TEST(Rng, StreamsDiffer) {
    EXPECT_NE(Rng(7, 1).bits64(0), Rng(7, 2).bits64(0));
    EXPECT_NE(Rng(7, 1).bits64(0), Rng(8, 1).bits64(0));
}

}  // namespace
}  // namespace octavo
