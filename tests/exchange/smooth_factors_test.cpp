#include "exchange/smooth_factors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/float8.h"
#include "base/rng.h"

namespace octavo {
namespace {

using enum FactorSync;
constexpr ScaleRounding kPow2 = ScaleRounding::pow2;

TEST(SmoothFactors, WorkedExample) {
    const std::vector<float> amax = {3, 5};
    EXPECT_EQ(token_factors(amax, shared, kPow2), (std::vector{8.0f, 8.0f}));
    EXPECT_EQ(token_factors(amax, local, kPow2), (std::vector{4.0f, 8.0f}));
    EXPECT_EQ(token_factors(amax, shared, ScaleRounding::exact), (std::vector{5.0f, 5.0f}));
    EXPECT_EQ(token_factors(std::vector{0.0f, 0.0f}, shared, kPow2),
              (std::vector{0x1p-24f, 0x1p-24f}));
}

TEST(SmoothFactors, OneAmaxThatIsNotFiniteMarksAllRanks) {
    for (const float x : {INFINITY, NAN}) {
        for (const std::vector<float>& amax : {std::vector{x, 1.0f}, std::vector{1.0f, x}}) {
            for (const float f : token_factors(amax, shared, kPow2)) EXPECT_TRUE(std::isnan(f));
        }
        EXPECT_EQ(token_factors(std::vector{1.0f, x}, local, kPow2)[0], 1);
    }
}

struct Token {
    std::vector<int> codes;  // of h / factor
    double output = 0;       // through a column of W_down, in f64
    double quantum = 0;      // of subnormal codes, through the magnitudes of that column
};

// A token of 64 channels on so many ranks; h = silu(a) b.
Token token_on(int ranks, FactorSync sync) {
    constexpr int kChannels = 64;
    constexpr float kInvScale = 64;
    const auto draw = [](std::uint64_t stream, int i) {
        return Rng(9, stream).normal(static_cast<std::uint64_t>(i));
    };
    const int part = kChannels / ranks;
    std::vector<float> amax(static_cast<std::size_t>(ranks));
    for (int i = 0; i < kChannels; ++i) {
        amax[i / part] = std::max(amax[i / part], std::abs(3 * draw(1, i)));
    }
    const std::vector<float> factors = token_factors(amax, sync, kPow2);
    Token token;
    for (int rank = 0; rank < ranks; ++rank) {
        double product = 0, magnitude = 0;
        for (int i = rank * part; i < (rank + 1) * part; ++i) {
            const float a = draw(0, i), b = 3 * draw(1, i);
            const float h = a / (1 + std::exp(-a)) * b / factors[rank];
            const e4m3 code(h * kInvScale);
            token.codes.push_back(code.bits);
            product += static_cast<double>(static_cast<float>(code) * draw(2, i));
            magnitude += static_cast<double>(std::abs(draw(2, i)));
        }
        // Before the sum over ranks, whose factors may differ.
        const auto scale = static_cast<double>(factors[rank] / kInvScale);
        token.output += product * scale;
        token.quantum += 0x1p-9 * magnitude * scale;
    }
    return token;
}

TEST(SmoothFactors, SharedOnesMakeTheCodesOfOneRank) {
    const Token one = token_on(1, shared);
    for (const int ranks : {2, 4, 8}) {
        const Token split = token_on(ranks, shared);
        EXPECT_EQ(split.codes, one.codes);
        EXPECT_NEAR(split.output, one.output, 1e-12);
    }
}

// Codes differ by powers of two, which the product gets back. Only what is subnormal under the
// larger factor is rounded otherwise, by half a quantum at most and half of a smaller one.
TEST(SmoothFactors, LocalOnesMakeTheSameProduct) {
    const Token one = token_on(1, shared), split = token_on(8, local);
    EXPECT_NE(split.codes, one.codes);
    EXPECT_NEAR(split.output, one.output, one.quantum);
}

}  // namespace
}  // namespace octavo
