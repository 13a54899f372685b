#include "exchange/gradient_reduction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "exchange/shards.h"

namespace octavo {
namespace {

using Gradients = std::vector<std::vector<float>>;  // (N, n)

std::vector<int> bits(const std::vector<e4m3>& codes) {
    std::vector<int> out;
    for (const e4m3 x : codes) out.push_back(x.bits);
    return out;
}

std::vector<float> values(const std::vector<e4m3>& codes, float scale = 1) {
    std::vector<float> out;
    for (const e4m3 x : codes) out.push_back(static_cast<float>(x) * scale);
    return out;
}

std::vector<std::vector<e4m3>> codes_of(const Gradients& g) {
    std::vector<std::vector<e4m3>> codes;
    for (const auto& rank : g) {
        codes.emplace_back();
        for (const float x : rank) codes.back().push_back(e4m3(x));
    }
    return codes;
}

TEST(GradientReduction, TwoRanks) {
    const Gradients g = {{1, 0.3f, -0.02f, 3.5f}, {1, -0.3f, 0.5f, 0.01f}};
    const SentGradient sent = cast_gradients(g, {});
    EXPECT_TRUE(sent.finite);
    EXPECT_EQ(sent.scale, (Scale{0x1p-7f, 0x1p7f}));
    EXPECT_EQ(bits(sent.codes[0]), (std::vector{0x70, 0x62, 0xC2, 0x7E}));
    EXPECT_EQ(bits(sent.codes[1]), (std::vector{0x70, 0xE2, 0x68, 0x3A}));

    EXPECT_EQ(exact_sum(sent.codes), (std::vector{256.0f, 0.0f, 61.5f, 449.25f}));
    const std::vector<float> mean = exact_mean(sent);
    EXPECT_EQ(mean, (std::vector{1.0f, 0.0f, 0.240234375f, 1.7548828125f}));
    const GatheredGradient fp8 = gather_fp8(mean, sent.scale);
    EXPECT_EQ(fp8.scale, (Scale{0x1p-7f, 0x1p7f}));
    EXPECT_EQ(bits(fp8.codes), (std::vector{0x70, 0x00, 0x5F, 0x76}));
    const std::vector<bf16> wide = gather_bf16(mean);
    EXPECT_EQ(static_cast<float>(wide[2]), 0.240234375f);
    EXPECT_EQ(static_cast<float>(wide[3]), 1.7578125f);

    const std::vector<e4m3> ring = ring_sum(sent.codes);
    EXPECT_EQ(bits(ring), (std::vector{0x78, 0x00, 0x67, 0x7E}));
    EXPECT_EQ(sent.mean_scale, 0x1p-8f);
    EXPECT_EQ(values(ring, sent.mean_scale), (std::vector{1.0f, 0.0f, 0.234375f, 1.75f}));
}

// Codes of three ranks, the same in each of the three shards of 16: where the ring begins decides
// what is clipped on the way.
TEST(GradientReduction, RingClipsByTheOrderOfItsHops) {
    struct Case {
        float ranks[3], ring[3], exact;
    };
    const Case cases[] = {{{240, 240, -240}, {240, 240, 208}, 240},
                          {{448, 448, -448}, {448, 448, 0}, 448}};
    for (const Case& c : cases) {
        Gradients g;
        for (const float x : c.ranks) g.emplace_back(48, x);
        const std::vector<float> ring = values(ring_sum(codes_of(g)));
        const std::vector<float> exact = exact_sum(codes_of(g));
        for (int i = 0; i < 48; ++i) {
            EXPECT_EQ(ring[i], c.ring[i / 16]) << i;
            EXPECT_EQ(exact[i], c.exact) << i;
        }
    }
}

TEST(GradientReduction, SumsOf73RanksAreExactInEveryOrder) {
    for (int small = 0; small < 73; ++small) {
        Gradients g(73, {448.0f});
        g[small] = {0x1p-9f};
        EXPECT_EQ(exact_sum(codes_of(g))[0], 32256.001953125f) << small;
    }
    Gradients g;
    for (int rank = 0; rank < 73; ++rank) {
        g.emplace_back();
        for (int i = 0; i < 256; ++i) {
            const auto draw = Rng(3, 0).bits(static_cast<std::uint64_t>(rank * 256 + i));
            const int code = static_cast<int>(draw & 0xFF);
            const bool nan = (code & 0x7F) == 0x7F;
            g.back().push_back(
                static_cast<float>(e4m3::from_bits(static_cast<std::uint8_t>(nan ? 0 : code))));
        }
    }
    const std::vector<float> forward = exact_sum(codes_of(g));
    std::ranges::reverse(g);
    EXPECT_EQ(exact_sum(codes_of(g)), forward);
    for (int i = 0; i < 256; ++i) {
        double sum = 0;
        for (const auto& rank : g) sum += static_cast<double>(rank[i]);
        EXPECT_EQ(forward[i], sum);
    }
}

// Adding in f16 at a hop, as the published ring does, is the same as adding in f32.
TEST(GradientReduction, HalfPrecisionHopsGiveTheSameCodes) {
    for (int a = 0; a < 256; ++a) {
        for (int b = 0; b < 256; ++b) {
            const e4m3 x = e4m3::from_bits(static_cast<std::uint8_t>(a));
            const e4m3 y = e4m3::from_bits(static_cast<std::uint8_t>(b));
            const float sum = static_cast<float>(x) + static_cast<float>(y);
            ASSERT_EQ(ring_sum(std::vector<std::vector<e4m3>>{{x}, {y}})[0],
                      e4m3(static_cast<float>(f16(sum))))
                << a << " " << b;
        }
    }
}

TEST(GradientReduction, MuIsInTheCodesAndNotInTheMean) {
    const Gradients g = {{1, -0.5f, 3.5f}, {1, 0.25f, 3.5f}};
    const SentGradient sent = cast_gradients(g, {}, 0.25f);
    EXPECT_EQ(sent.scale.inv_scale, 0x1p7f);
    EXPECT_EQ(values(sent.codes[1]), (std::vector{32.0f, 8.0f, 112.0f}));
    EXPECT_EQ(sent.mean_scale, 0x1p-6f);
    EXPECT_EQ(exact_mean(sent), (std::vector{1.0f, -0.125f, 3.5f}));
    EXPECT_EQ(values(ring_sum(sent.codes), sent.mean_scale), (std::vector{1.0f, -0.125f, 3.5f}));
}

TEST(GradientReduction, WithoutAnAmaxTheScaleStays) {
    const Scale old{0x1p-3f, 0x1p3f};
    for (const float x : {0.0f, 0x1p-127f}) {
        const SentGradient sent = cast_gradients(Gradients{{x}, {x}}, old);
        EXPECT_TRUE(sent.finite);
        EXPECT_EQ(sent.scale, old);
        EXPECT_EQ(sent.mean_scale, 0x1p-4f);
        EXPECT_EQ(bits(sent.codes[1]), std::vector{0});
        EXPECT_EQ(gather_fp8(exact_mean(sent), sent.scale).scale, old);
    }
    // What cancels leaves a mean without one.
    const SentGradient sent = cast_gradients(Gradients{{3}, {-3}}, old);
    const GatheredGradient mean = gather_fp8(exact_mean(sent), sent.scale);
    EXPECT_EQ(mean.scale, sent.scale);
    EXPECT_EQ(bits(mean.codes), std::vector{0});
    EXPECT_TRUE(cast_gradients(Gradients{{}, {}}, old).finite);
}

TEST(GradientReduction, OneRankThatIsNotFiniteStopsAll) {
    const Scale old{0x1p-3f, 0x1p3f};
    for (const float x : {INFINITY, -INFINITY, NAN}) {
        for (int rank = 0; rank < 3; ++rank) {
            Gradients g(3, {1, 2});
            g[rank][1] = x;
            const SentGradient sent = cast_gradients(g, old);
            EXPECT_FALSE(sent.finite);
            EXPECT_EQ(sent.scale, old);
            EXPECT_TRUE(sent.codes.empty());
        }
    }
}

// The smallest scale, whose inverse times the number of ranks f32 cannot hold.
TEST(GradientReduction, MeansOfTheSmallestGradients) {
    const SentGradient sent = cast_gradients(Gradients(4, {0x1p-126f}), {});
    EXPECT_EQ(sent.scale.inv_scale, 0x1p126f);
    EXPECT_EQ(exact_mean(sent)[0], 0x1p-126f);
}

TEST(GradientReduction, RanksMustAgreeOnTheNumberOfElements) {
    EXPECT_THROW(cast_gradients(Gradients{{1, 2}, {1}}, {}), Error);
    EXPECT_THROW(exact_sum({}), Error);
}

// Gaussian gradients that share a part: x_i = rho common + sqrt(1 - rho^2) own.
Gradients correlated(double rho, int ranks, std::uint64_t seed) {
    constexpr std::uint64_t kElements = 65536;
    const double rest = std::sqrt(1 - rho * rho);
    Gradients g;
    for (int rank = 0; rank < ranks; ++rank) {
        const Rng common(seed, 0), own(seed, 1 + static_cast<std::uint64_t>(rank));
        g.emplace_back();
        for (std::uint64_t i = 0; i < kElements; ++i) {
            const double a = static_cast<double>(common.normal(i));
            const double b = rest == 0 ? 0 : static_cast<double>(own.normal(i));
            g.back().push_back(static_cast<float>(rho * a + rest * b));
        }
    }
    return g;
}

// Signal to noise of a mean, dB.
double snr(const std::vector<float>& mean, const Gradients& g) {
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < mean.size(); ++i) {
        double truth = 0;
        for (const auto& rank : g) truth += static_cast<double>(rank[i]);
        truth /= static_cast<double>(g.size());
        const double error = static_cast<double>(mean[i]) - truth;
        signal += truth * truth;
        noise += error * error;
    }
    return 10 * std::log10(signal / noise);
}

// Why the sum is not made in 8 bits: it clips, and rounds at every hop.
TEST(GradientReduction, SignalToNoise) {
    struct Case {
        double rho;
        int ranks;
        double ring_mean, ring_one, ring_root, clipped_one, clipped_root, exact, exact_fp8;
    };
    const Case cases[] = {
        {0.1, 2, 28.2, 28.2, 28.2, 0.00, 0.00, 31.6, 28.2},
        {0.1, 8, 23.9, 21.1, 23.9, 0.02, 0.00, 31.8, 28.7},
        {0.1, 32, 19.3, 7.5, 19.3, 0.14, 0.00, 32.7, 29.1},
        {1, 8, 23.6, 7.0, 21.7, 0.44, 0.03, 31.5, 31.5},
        {1, 32, 9.2, 1.6, 8.0, 0.79, 0.13, 31.5, 31.5},
    };
    for (const Case& c : cases) {
        SCOPED_TRACE(testing::Message() << "rho " << c.rho << ", " << c.ranks << " ranks");
        const Gradients g = correlated(c.rho, c.ranks, 1);
        struct Ring {
            double snr, clipped;
        };
        const auto ring = [&](double mu) -> Ring {
            const SentGradient sent = cast_gradients(g, {}, static_cast<float>(mu));
            EXPECT_EQ(sent.scale.inv_scale, 64);
            const std::vector<e4m3> sum = ring_sum(sent.codes);
            const auto top =
                std::ranges::count_if(sum, [](e4m3 x) { return (x.bits & 0x7F) == 0x7E; });
            return {snr(values(sum, sent.mean_scale), g),
                    static_cast<double>(top) / static_cast<double>(sum.size())};
        };
        EXPECT_NEAR(ring(1.0 / c.ranks).snr, c.ring_mean, 0.5);
        const Ring one = ring(1), root = ring(1 / std::sqrt(c.ranks));
        EXPECT_NEAR(one.snr, c.ring_one, 0.5);
        EXPECT_NEAR(one.clipped, c.clipped_one, 0.01);
        EXPECT_NEAR(root.snr, c.ring_root, 0.5);
        EXPECT_NEAR(root.clipped, c.clipped_root, 0.01);

        const SentGradient sent = cast_gradients(g, {});
        const std::vector<float> mean = exact_mean(sent);
        EXPECT_NEAR(snr(mean, g), c.exact, 0.5);
        std::vector<float> rounded;
        for (const bf16 x : gather_bf16(mean)) rounded.push_back(static_cast<float>(x));
        EXPECT_NEAR(snr(rounded, g), c.exact, 0.5);
        const GatheredGradient fp8 = gather_fp8(mean, sent.scale);
        EXPECT_NEAR(snr(values(fp8.codes, fp8.scale.scale), g), c.exact_fp8, 0.5);
    }
}

TEST(Shards, ArePacketsOf16) {
    EXPECT_EQ(shard_size(0, 4), 0);
    EXPECT_EQ(shard_size(1, 4), 16);
    EXPECT_EQ(shard_size(64, 4), 16);
    EXPECT_EQ(shard_size(65, 4), 32);
    EXPECT_EQ(shard(65, 4, 1), (Shard{32, 64}));
    EXPECT_EQ(shard(65, 4, 2), (Shard{64, 65}));
    EXPECT_EQ(shard(65, 4, 3), (Shard{65, 65}));
    for (const std::int64_t n : {0, 1, 15, 16, 17, 1000, 4097}) {
        for (int ranks = 1; ranks <= 9; ++ranks) {
            std::int64_t end = 0;
            for (int rank = 0; rank < ranks; ++rank) {
                const Shard part = shard(n, ranks, rank);
                EXPECT_EQ(part.begin, end);
                EXPECT_LE(part.end - part.begin, shard_size(n, ranks));
                end = part.end;
            }
            EXPECT_EQ(end, n);
        }
    }
}

}  // namespace
}  // namespace octavo
