#include "base/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"
#include "base/sample_rule.h"

namespace octavo {
namespace {

// u = ((x >> 8) + 0.5) 2^-24, read off a total of 2^25.
double uniform(std::uint32_t random) {
    return static_cast<double>(draw_target(random, Mass{1} << 25)) * 0x1p-25;
}

TEST(SampleBits, KnownAnswers) {
    EXPECT_EQ(sample_bits(0, 0, 0, 0), 0x6627E8D5u);
    EXPECT_EQ(sample_bits(1234, 7, 3, 5), 0xD7E7CF76u);
    EXPECT_EQ(sample_bits(0x123456789ABCDEF0, 5 * (1ull << 32) + 9, 15, 20479), 0xB2DC7B88u);
    EXPECT_EQ(philox(1234, 7, 3ull << 32 | 5),
              (PhiloxBlock{0xD7E7CF76, 0x0BA88673, 0x04C094CB, 0x98C24C66}));
    EXPECT_EQ(uniform(0x6627E8D5), 0.3990464508533478);
    EXPECT_EQ(uniform(0xD7E7CF76), 0.8433808982372284);
    EXPECT_EQ(uniform(0xB2DC7B88), 0.6986767947673798);
}

TEST(SampleRule, TargetIsTheFloorOfItsShare) {
    for (const Mass total : {Mass{1}, Mass{3}, (Mass{1} << 44) + 1, (Mass{1} << 63) - 5}) {
        for (const std::uint32_t random : {0u, 0x100u, 0x6627E8D5u, 0xFFFFFFFFu}) {
            // In long multiplication: hi 2^32 + lo.
            const Mass u = 2 * (random >> 8) + 1;
            const Mass lo = u * (total & 0xFFFFFFFF), hi = u * (total >> 32) + (lo >> 32);
            const Mass want = (hi << 7) + ((lo & 0xFFFFFFFF) >> 25);
            EXPECT_EQ(draw_target(random, total), want) << total << " " << random;
            EXPECT_LT(want, total);
        }
    }
}

TEST(SampleRule, KeysOrderLikeLogits) {
    const float ordered[] = {
        std::numeric_limits<float>::lowest(), -2, -1.5f, -1e-40f, 0, 1e-40f, 1, 3e38f};
    for (std::size_t i = 0; i < std::size(ordered); ++i) {
        EXPECT_EQ(logit_of(order_key(ordered[i])), ordered[i]);
    }
    for (std::size_t i = 1; i < std::size(ordered); ++i) {
        EXPECT_LT(order_key(ordered[i - 1]), order_key(ordered[i]));
    }
    EXPECT_EQ(order_key(-0.0f), order_key(0.0f));
    EXPECT_GT(ranked(1, 3), ranked(1, 4));
    EXPECT_GT(ranked(1.5f, 4), ranked(1, 3));
    EXPECT_EQ(ranked_id(ranked(-2, 77)), 77);
    EXPECT_EQ(ranked_logit(ranked(-2, 77)), -2);
    EXPECT_GT(ranked(-std::numeric_limits<float>::infinity(), 0), ranked(3e38f, 0));
}

TEST(SampleRule, MassIsTheExponential) {
    EXPECT_EQ(mass_of(3, 3), Mass{1} << kMassBits);
    EXPECT_EQ(mass_of(-50, 3), 0u);
    EXPECT_EQ(mass_of(-std::numeric_limits<float>::infinity(), 3), 0u);
    EXPECT_EQ(mass_of(-3e38f, 3e38f), 0u);
    const Rng rng(3, 0);
    for (std::uint64_t i = 0; i < 200000; ++i) {
        const float z = -45 * rng.uniform(i), max = 4 * rng.uniform(200000 + i);
        const long double want = std::ldexp(std::exp(static_cast<long double>(z) - max), kMassBits);
        ASSERT_LT(std::abs(static_cast<long double>(mass_of(z, max)) - want), 0.7L) << z;
    }
}

TEST(SampleRule, TopPLimit) {
    const Mass one = Mass{1} << kMassBits;
    EXPECT_EQ(top_p_limit(0.5f, 4 * one), 2 * one);
    EXPECT_EQ(top_p_limit(0.5f, 4 * one + 1), 2 * one + 1);
    EXPECT_EQ(top_p_limit(0x1p-60f, one), 1u);
    EXPECT_EQ(top_p_limit(0, one), 1u);
}

TEST(DrawRow, NoIdsNoToken) {
    const Drawn drawn = draw({}, {});
    EXPECT_EQ(drawn.token, -1);
    EXPECT_TRUE(std::isnan(drawn.log_probability));
}

}  // namespace
}  // namespace octavo
