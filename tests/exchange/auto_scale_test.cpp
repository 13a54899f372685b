#include "exchange/auto_scale.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "base/rng.h"
#include "exchange/gradient_reduction.h"

namespace octavo {
namespace {

TEST(AutoScale, WorkedExample) {
    int log_mu = initial_log_mu(8);
    EXPECT_EQ(log_mu, -1500);
    EXPECT_FLOAT_EQ(mu_of(log_mu), 0.35355339f);
    log_mu = next_log_mu(log_mu, 2e-5);
    EXPECT_EQ(log_mu, -2500);
    EXPECT_FLOAT_EQ(mu_of(log_mu), 0.17677670f);
    for (int step = 0; step < 1000; ++step) log_mu = next_log_mu(log_mu, 1e-5);
    EXPECT_EQ(log_mu, -1500);

    EXPECT_EQ(initial_log_mu(1), 0);
    EXPECT_EQ(initial_log_mu(2), -500);
    EXPECT_EQ(initial_log_mu(3), -792);
    EXPECT_EQ(initial_log_mu(32), -2500);
}

TEST(AutoScale, StaysWithinItsRange) {
    EXPECT_EQ(next_log_mu(1000, 0), 1000);
    EXPECT_EQ(next_log_mu(990, 0, {.growth = 20}), 1000);
    EXPECT_EQ(next_log_mu(-15500, 1), -16000);
    EXPECT_EQ(mu_of(1000), 2);
    EXPECT_EQ(mu_of(-16000), 0x1p-16f);
}

// A library's exp2 in f64 is as good as the exact power: none of the powers lies so near to the
// middle between two floats that it would matter.
TEST(AutoScale, MuIsRoundedOnce) {
    for (int log_mu = -16000; log_mu <= 1000; ++log_mu) {
        ASSERT_EQ(mu_of(log_mu), static_cast<float>(std::exp2(log_mu / 1000.0L))) << log_mu;
    }
}

TEST(AutoScale, CountsTopCodesOfBothSigns) {
    const auto code = [](int bits) { return e4m3::from_bits(static_cast<std::uint8_t>(bits)); };
    const std::vector<e4m3> half = {code(0x7E), code(0xFE), code(0x7D), code(0)};
    EXPECT_EQ(saturated_share(half), 0.5);
    EXPECT_EQ(saturated_share({}), 0);
    const std::vector<std::vector<e4m3>> ranks = {{code(0), code(0), code(0), code(0)}, half};
    EXPECT_EQ(largest_saturated_share(ranks), 0.5);
}

struct Course {
    std::vector<double> mu, clipped;  // of the steps after the first hundred

    double mean_mu() const {
        return std::accumulate(mu.begin(), mu.end(), 0.0) / static_cast<double>(mu.size());
    }
    double mean_clipped() const {
        return std::accumulate(clipped.begin(), clipped.end(), 0.0) /
               static_cast<double>(clipped.size());
    }
};

// 300 steps of 8 ranks in a ring; gradients share a part and move in size by a factor of up to
// exp(0.5) either way.
Course course(double rho, bool local) {
    constexpr int kRanks = 8, kSteps = 300;
    constexpr std::size_t kElements = 65536, kPool = std::size_t{1} << 20;
    static const std::vector<float> pool = [] {
        std::vector<float> x(kPool);
        for (std::size_t i = 0; i < kPool; ++i) x[i] = Rng(5, 0).normal(i);
        return x;
    }();
    const Rng rng(6, 0);
    const double rest = std::sqrt(1 - rho * rho);
    std::vector<std::vector<float>> g(kRanks, std::vector<float>(kElements));
    int log_mu = initial_log_mu(kRanks);
    Course course;
    for (int step = 0; step < kSteps; ++step) {
        const auto draw = [&](int i) {
            return static_cast<std::uint64_t>(step * (kRanks + 2) + i);
        };
        const double size = std::exp(static_cast<double>(rng.uniform(draw(0))) - 0.5);
        const std::size_t common = rng.bits(draw(1));
        for (int rank = 0; rank < kRanks; ++rank) {
            const std::size_t own = rng.bits(draw(2 + rank));
            const auto a = static_cast<float>(size * rho), b = static_cast<float>(size * rest);
            for (std::size_t i = 0; i < kElements; ++i) {
                g[rank][i] = a * pool[(common + i) % kPool] + b * pool[(own + i) % kPool];
            }
        }
        const SentGradient sent = cast_gradients(g, {}, mu_of(log_mu));
        const std::vector<e4m3> sum = ring_sum(sent.codes);
        if (step >= 100) {
            course.mu.push_back(static_cast<double>(mu_of(log_mu)));
            course.clipped.push_back(saturated_share(sum));
        }
        const double seen = local ? largest_saturated_share(sent.codes) : saturated_share(sum);
        log_mu = next_log_mu(log_mu, seen, {.growth = 20});
    }
    return course;
}

TEST(AutoScale, WatchingTheSumKeepsItFromBeingClipped) {
    struct Case {
        double rho, low, high;
    };
    for (const Case& c : {Case{1, 0.05, 0.17}, Case{0.1, 0.14, 0.65}}) {
        SCOPED_TRACE(c.rho);
        const Course watched = course(c.rho, false);
        EXPECT_GE(std::ranges::min(watched.mu), c.low);
        EXPECT_LE(std::ranges::max(watched.mu), c.high);
        EXPECT_LT(watched.mean_clipped(), 1e-4);
    }
}

// As published: mu settles where what ranks send begins to saturate, and the sum is clipped.
TEST(AutoScale, WatchingWhatRanksSendDoesNot) {
    for (const double rho : {1.0, 0.1}) {
        SCOPED_TRACE(rho);
        const Course watched = course(rho, true);
        EXPECT_GE(watched.mean_mu(), 0.6);
        EXPECT_LE(watched.mean_mu(), 1.1);
    }
    EXPECT_GT(course(1, true).mean_clipped(), 0.3);
}

}  // namespace
}  // namespace octavo
