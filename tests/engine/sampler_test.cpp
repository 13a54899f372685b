#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/error.h"

namespace octavo {
namespace {

// ln of 0.5, 0.25, 0.15, 0.1
const std::vector<float> kLogits = {std::log(0.25f), std::log(0.5f), std::log(0.1f),
                                    std::log(0.15f)};

std::vector<double> frequencies(const SampleOptions& o) {
    std::vector<double> f(kLogits.size());
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i) {
        f[static_cast<std::size_t>(sample(kLogits, o, 0, static_cast<std::uint64_t>(i)))] +=
            1.0 / kDraws;
    }
    return f;
}

// Three standard deviations of a frequency over 20,000 draws.
constexpr double kNoise = 0.011;

TEST(Sampler, FollowsTheDistribution) {
    const auto f = frequencies({});
    EXPECT_NEAR(f[0], 0.25, kNoise);
    EXPECT_NEAR(f[1], 0.5, kNoise);
    EXPECT_NEAR(f[2], 0.1, kNoise);
    EXPECT_NEAR(f[3], 0.15, kNoise);
}

TEST(Sampler, TemperatureSharpens) {
    const double sum = 0.25 * 0.25 + 0.5 * 0.5 + 0.1 * 0.1 + 0.15 * 0.15;
    EXPECT_NEAR(frequencies({.temperature = 0.5})[1], 0.25 / sum, kNoise);
    EXPECT_NEAR(frequencies({.temperature = 0})[1], 1.0, 1e-9);
    EXPECT_EQ(sample(kLogits, {.temperature = 0}, 0, 0), 1);
}

TEST(Sampler, TopKKeepsTheMostLikely) {
    const auto f = frequencies({.top_k = 2});
    EXPECT_NEAR(f[1], 0.5 / 0.75, kNoise);
    EXPECT_EQ(f[2], 0);
    EXPECT_EQ(f[3], 0);
}

TEST(Sampler, TopPKeepsTheSmallestSet) {
    const auto f = frequencies({.top_p = 0.8});  // 0.5 + 0.25 < 0.8 <= 0.5 + 0.25 + 0.15
    EXPECT_EQ(f[2], 0);
    EXPECT_NEAR(f[3], 0.15 / 0.9, kNoise);
    EXPECT_NEAR(frequencies({.top_p = 1e-9})[1], 1.0, 1e-9);
}

TEST(Sampler, PaddingIsNeverDrawn) {
    const auto f = frequencies({.vocabulary = 2});
    EXPECT_NEAR(f[0], 1.0 / 3, kNoise);
    EXPECT_EQ(f[2] + f[3], 0);
}

TEST(Sampler, IsAFunctionOfItsCounters) {
    std::set<std::int32_t> drawn;
    for (std::uint64_t sequence = 0; sequence < 50; ++sequence) {
        EXPECT_EQ(sample(kLogits, {}, sequence, 3), sample(kLogits, {}, sequence, 3));
        drawn.insert(sample(kLogits, {}, sequence, 3));
    }
    EXPECT_GT(drawn.size(), 1u);
}

TEST(Sampler, RefusesBadOptions) {
    EXPECT_THROW(check_options({.temperature = -1}), Error);
    EXPECT_THROW(check_options({.top_k = -1}), Error);
    EXPECT_THROW(check_options({.top_p = 0}), Error);
    EXPECT_THROW(check_options({.top_p = 1.5}), Error);
    EXPECT_NO_THROW(check_options({}));
}

}  // namespace
}  // namespace octavo
