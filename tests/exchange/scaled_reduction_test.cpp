#include "exchange/scaled_reduction.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/rng.h"

namespace octavo {
namespace {

using Ranks = std::vector<ScaledData>;

TEST(ScaledReduction, WorkedExample) {
    const Ranks ranks = {{{1, 2}, 0}, {{1, -1}, 2}};
    EXPECT_EQ(scaled_mean(ranks), (ScaledData{{0.625f, -0.25f}, 2}));
    EXPECT_EQ(scaled_sum(ranks), (ScaledData{{1.25f, -0.5f}, 2}));
    EXPECT_EQ(scaled_gather(ranks), (ScaledData{{0.25f, 0.5f, 1, -1}, 2}));
}

TEST(ScaledReduction, SumsOfManyRanksKeepTheSizeOfData) {
    for (const int ranks : {1, 2, 3, 4, 15, 16, 64}) {
        Ranks x(static_cast<std::size_t>(ranks));
        for (int rank = 0; rank < ranks; ++rank) {
            const Rng rng(2, static_cast<std::uint64_t>(rank));
            for (std::uint64_t i = 0; i < 4096; ++i) x[rank].data.push_back(rng.normal(i));
            x[rank].exponent = -3;
        }
        const ScaledData sum = scaled_sum(x);
        double square = 0;
        for (const float v : sum.data) square += static_cast<double>(v) * static_cast<double>(v);
        const double rms = std::sqrt(square / 4096);
        EXPECT_GT(rms, 0.95) << ranks;
        EXPECT_LT(rms, 2.05) << ranks;

        // The value is that of the plain sum.
        double plain = 0;
        for (const ScaledData& r : x) plain += std::ldexp(static_cast<double>(r.data[7]), -3);
        EXPECT_NEAR(std::ldexp(static_cast<double>(sum.data[7]), sum.exponent), plain, 1e-5);
    }
}

TEST(ScaledReduction, RanksMustAgreeOnTheNumberOfElements) {
    EXPECT_THROW(scaled_mean(Ranks{{{1, 2}, 0}, {{1}, 0}}), Error);
    EXPECT_THROW(scaled_gather({}), Error);
}

}  // namespace
}  // namespace octavo
