#include "io/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "io/token_file_writer.h"
#include "scratch.h"

namespace octavo {
namespace {

// Sources whose tokens are all the source's number.
std::vector<BatchSource> numbered(const Scratch& dir, std::size_t n) {
    std::vector<BatchSource> sources;
    for (std::size_t i = 0; i < n; ++i) {
        const auto path = dir / (std::to_string(i) + ".bin");
        TokenFileWriter file(path, 100);
        file.write(std::vector<std::int32_t>(101, static_cast<std::int32_t>(i)));
        file.close();
        std::vector<TokenFile> shards;
        shards.emplace_back(path);
        sources.emplace_back(std::move(shards),
                             BatchOptions{.sequence_length = 10, .vocabulary = 100});
    }
    return sources;
}

TEST(Mixture, KeepsItsSharesAtEveryPrefix) {
    const Scratch dir;
    for (const auto& weights : std::vector<std::vector<double>>{
             {1}, {1, 1}, {0.7, 0.3}, {1, 1000}, {5, 3, 2}, {1, 1, 1, 1, 1}, {90, 1, 5, 4}}) {
        const Mixture mixture(numbered(dir, weights.size()), weights);
        const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
        const double slack = 0.5 * static_cast<double>(weights.size()) + 1e-6;
        std::vector<std::int64_t> seen(weights.size());
        for (std::int64_t i = 0; i < 5000; ++i) {
            const Mixture::Place at = mixture.place(i);
            // Each source counts its samples without a gap.
            ASSERT_EQ(at.sample, seen[at.source]++);
            for (std::size_t k = 0; k < weights.size(); ++k) {
                const double want = static_cast<double>(i + 1) * weights[k] / all;
                ASSERT_NEAR(static_cast<double>(seen[k]), want, slack) << i << " " << k;
            }
            ASSERT_EQ(mixture.counts(i + 1), seen);
        }
    }
}

TEST(Mixture, IsAFunctionOfTheSampleFarOut) {
    const Scratch dir;
    const Mixture mixture(numbered(dir, 3), {0.5, 0.3, 0.2});
    for (const std::int64_t base : {std::int64_t{1} << 40, (std::int64_t{1} << 60) + 12345}) {
        std::vector<std::int64_t> seen = mixture.counts(base);
        EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), std::int64_t{0}), base);
        EXPECT_NEAR(static_cast<double>(seen[0]) / static_cast<double>(base), 0.5, 1e-9);
        EXPECT_NEAR(static_cast<double>(seen[1]) / static_cast<double>(base), 0.3, 1e-9);
        for (std::int64_t i = base; i < base + 100; ++i) {
            const Mixture::Place at = mixture.place(i);
            ASSERT_EQ(at.sample, seen[at.source]++);
        }
    }
}

TEST(Mixture, OnlyRatiosCount) {
    const Scratch dir;
    const auto counts = [&](double a, double b, double c) {
        return Mixture(numbered(dir, 3), {a, b, c}).counts(1 << 20);
    };
    const auto want = counts(3, 2, 1);
    for (const double unit : {0x1p1020, 1e-300, 0x1p-1074, 0x1p-500}) {
        EXPECT_EQ(counts(3 * unit, 2 * unit, unit), want) << unit;
    }
    const double most = std::numeric_limits<double>::max();
    EXPECT_EQ(counts(most, most, most), counts(1, 1, 1));
    EXPECT_EQ(counts(most, 1, 0x1p-1074), (std::vector<std::int64_t>{1 << 20, 0, 0}));
}

TEST(Mixture, ReadsNothingOfSourcesWithoutAWeight) {
    const Scratch dir;
    // Differences of these are rounded: what is left of them must not go to the last.
    for (const auto& weights : std::vector<std::vector<double>>{
             {3e6, 0.1, 0}, {0.1, 0.2, 0.3, 0}, {0, 1, 0}, {0, 0, 1}, {0.3, 0, 0.1, 0, 0}}) {
        const Mixture mixture(numbered(dir, weights.size()), weights);
        const auto counts = mixture.counts(std::int64_t{1} << 60);
        EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}),
                  std::int64_t{1} << 60);
        for (std::size_t k = 0; k < weights.size(); ++k) {
            EXPECT_EQ(counts[k] > 0, weights[k] > 0) << k;
        }
        for (std::int64_t i = 0; i < 1000; ++i) ASSERT_GT(weights[mixture.place(i).source], 0);
    }
}

TEST(Mixture, StagesKeepTheirSharesAndSourcesTheirPlaces) {
    const Scratch dir;
    const std::vector<MixtureStage> stages = {
        {0, {5, 3, 2}}, {1000, {0, 1, 3}}, {1001, {1, 0, 0}}, {1500, {2, 0, 1}}, {3000, {1, 1, 8}}};
    const Mixture mixture(numbered(dir, 3), stages), first(numbered(dir, 3), {5, 3, 2});
    std::vector<std::int64_t> seen(3), before(3);
    std::size_t stage = 0;
    for (std::int64_t i = 0; i < 6000; ++i) {
        if (stage + 1 < stages.size() && i == stages[stage + 1].begin) {
            ++stage;
            before = seen;
        }
        const Mixture::Place at = mixture.place(i);
        ASSERT_EQ(at.sample, seen[at.source]++);  // without a gap, across borders
        ASSERT_EQ(mixture.counts(i + 1), seen);
        const std::vector<double>& weights = stages[stage].weights;
        const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
        const auto samples = static_cast<double>(i + 1 - stages[stage].begin);
        for (std::size_t k = 0; k < 3; ++k) {
            const auto got = static_cast<double>(seen[k] - before[k]);
            const double slack = weights[k] == 0 ? 0 : 1.5 + 1e-6;
            ASSERT_NEAR(got, samples * weights[k] / all, slack) << i << " " << k;
        }
        if (stage == 0) {
            ASSERT_EQ(at.source, first.place(i).source);
            ASSERT_EQ(at.sample, first.place(i).sample);
        }
    }
}

TEST(Mixture, BatchesHaveTheirSourcesTokensOnAnyNumberOfRanks) {
    const Scratch dir;
    const Mixture mixture(numbered(dir, 2), {3, 1});
    const auto first_tokens = [&](std::size_t rows, int ranks) {
        std::vector<std::int32_t> firsts(12);
        for (int rank = 0; rank < ranks; ++rank) {
            Batch batch(static_cast<std::int64_t>(rows), 10, false);
            mixture.batch(2, batch.spans(), rank, ranks);
            for (std::size_t b = 0; b < rows; ++b) {
                firsts[b * static_cast<std::size_t>(ranks) + static_cast<std::size_t>(rank)] =
                    batch.ids[10 * b];
            }
        }
        return firsts;
    };
    const auto one = first_tokens(12, 1);
    EXPECT_EQ(std::ranges::count(one, 1), 3);
    EXPECT_EQ(first_tokens(4, 3), one);
    EXPECT_EQ(first_tokens(3, 4), one);
}

TEST(Mixture, Refuses) {
    const Scratch dir;
    EXPECT_TRUE(contains(error_of([&] { Mixture(numbered(dir, 2), {1}); }), "each of 2 sources"));
    EXPECT_TRUE(contains(error_of([&] { Mixture(numbered(dir, 2), {0, 0}); }), "above 0"));
    EXPECT_TRUE(contains(error_of([&] { Mixture(numbered(dir, 2), {1, -1}); }), "at least 0"));
    EXPECT_TRUE(contains(error_of([&] { Mixture(numbered(dir, 2), {1, NAN}); }), "at least 0"));
    const auto staged = [&](const std::vector<MixtureStage>& stages) {
        return error_of([&] { Mixture(numbered(dir, 2), stages); });
    };
    EXPECT_TRUE(contains(staged({}), "from sample 0"));
    EXPECT_TRUE(contains(staged({{5, {1, 1}}}), "from sample 0"));
    EXPECT_TRUE(contains(staged({{0, {1, 1}}, {9, {1, 2}}, {9, {1, 1}}}), "got 9 and 9"));
    EXPECT_TRUE(contains(staged({{0, {1, 1}}, {9, {1}}}), "each of 2 sources"));
    const Mixture mixture(numbered(dir, 1), {1});
    EXPECT_THROW(mixture.place(-1), Error);
}

}  // namespace
}  // namespace octavo
