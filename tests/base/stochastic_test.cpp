#include "base/stochastic.h"

#include <gtest/gtest.h>

#include <cmath>

namespace octavo {
namespace {

template <class T>
int code(float y, std::uint32_t word) {
    return T(round_stochastically_to<T>(y, word)).bits;
}

// A golden vector of arXiv 2409.12517's moments: seed 0, element 0, tensor 0, step 0, state 0.
TEST(RoundStochasticallyTo, GoldenCodes) {
    const PhiloxBlock words = StateNoise{}(0, 0);
    EXPECT_EQ(words, (PhiloxBlock{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
    const double uniform[] = {.39904642, .88052017, .73571277, .60548180};
    const float y[] = {1.04f, 1.06f, 1.10f, 1.12f}, small[] = {.0008f, .0018f, -.0012f, 460};
    const int e4m3_codes[] = {0x38, 0x38, 0x39, 0x39}, small_codes[] = {0x01, 0x01, 0x80, 0x7E};
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_NEAR(to_uniform(words[i]), uniform[i], 1e-8);
        EXPECT_EQ(code<e4m3>(y[i], words[i]), e4m3_codes[i]) << y[i];
        EXPECT_EQ(code<e5m2>(y[i], words[i]), 0x3C) << y[i];
        EXPECT_EQ(code<e4m3>(small[i], words[i]), small_codes[i]) << small[i];
    }
}

// Every code is a fixed point, and what lies between two becomes one of them, on average itself.
template <class T>
void check_neighbours() {
    const Rng rng(1, 2);
    for (int below = 0; below < T::kFormat.max_code; below += std::is_same_v<T, f16> ? 61 : 1) {
        const float low = decode_minifloat<T>(below), high = decode_minifloat<T>(below + 1);
        constexpr int kSign = 1 << (T::kFormat.exponent_bits + T::kFormat.mantissa_bits);
        for (const std::uint32_t word : {0u, 0x80000000u, 0xFFFFFFFFu}) {
            ASSERT_EQ(code<T>(low, word), below);
            ASSERT_EQ(code<T>(-low, word), below | kSign);
        }
        const float y = low + (high - low) * 0.3125f;
        int ups = 0;
        for (std::uint64_t i = 0; i < 400; ++i) {
            const int c = code<T>(y, rng.bits(400 * static_cast<std::uint64_t>(below) + i));
            ASSERT_TRUE(c == below || c == below + 1) << y << " " << c;
            ups += c - below;
        }
        EXPECT_NEAR(ups, 125, 5 * std::sqrt(400 * 0.3125 * 0.6875)) << y;
    }
}

TEST(RoundStochasticallyTo, ChoosesANeighbour) {
    check_neighbours<e4m3>();
    check_neighbours<e5m2>();
    check_neighbours<f16>();
}

TEST(RoundStochasticallyTo, LeavesTheRestToTheCast) {
    EXPECT_EQ(code<e4m3>(1e30f, ~0u), 0x7E);
    EXPECT_EQ(code<e4m3>(-INFINITY, 0), 0xFE);
    EXPECT_EQ(code<e4m3>(NAN, 0), 0x7F);
    EXPECT_EQ(code<e5m2>(0x1p-140f, 0), 0x01);  // any word of 0 rounds up what is above 0
    EXPECT_EQ(code<e5m2>(0x1p-140f, ~0u), 0x00);
}

TEST(StateNoise, DependsOnAllItIsAskedFor) {
    const PhiloxBlock a = StateNoise{1, 2, 3}(0, 7);
    EXPECT_EQ(a, (StateNoise{1, 2, 3}(0, 7)));
    EXPECT_NE(a, (StateNoise{2, 2, 3}(0, 7)));
    EXPECT_NE(a, (StateNoise{1, 3, 3}(0, 7)));
    EXPECT_NE(a, (StateNoise{1, 2, 4}(0, 7)));
    EXPECT_NE(a, (StateNoise{1, 2, 3}(1, 7)));
    EXPECT_NE(a, (StateNoise{1, 2, 3}(0, 8)));
}

}  // namespace
}  // namespace octavo
