#include "backends/cpu/math.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace octavo::cpu {
namespace {

// In units of the last place of the f32 next to `want`.
double error_ulp(float got, double want) {
    const float nearest = std::abs(static_cast<float>(want));
    const float ulp = std::nextafter(nearest, std::numeric_limits<float>::infinity()) - nearest;
    return std::abs(static_cast<double>(got) - want) / static_cast<double>(ulp);
}

// Every 997th f32, NaNs too, through a loop that vectorises like the kernels'.
template <class F, class Check>
void for_all(F f, Check check) {
    std::vector<float> x(4096), y(x.size());
    for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32;) {
        for (float& v : x) {
            v = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
            bits += 997;
        }
#pragma omp simd
        for (std::size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
        for (std::size_t i = 0; i < x.size(); ++i) {
            if (std::isnan(x[i])) {
                ASSERT_TRUE(std::isnan(y[i]));
            } else {
                check(x[i], y[i]);
            }
        }
    }
}

TEST(Math, Exp) {
    double worst = 0;
    for_all([](float x) { return exp(x); },
            [&](float x, float y) {
                const double want = std::exp(static_cast<double>(x));
                if (x >= 70) {
                    ASSERT_EQ(y, std::numeric_limits<float>::infinity()) << x;
                } else {
                    worst = std::max(worst, error_ulp(y, want));
                }
            });
    EXPECT_LT(worst, 1.1);
}

TEST(Math, Sigmoid) {
    double worst = 0;
    for_all([](float x) { return sigmoid(x); },
            [&](float x, float y) {
                const double want = 1 / (1 + std::exp(-static_cast<double>(x)));
                worst = std::max(worst, error_ulp(y, want));
            });
    EXPECT_LT(worst, 2.5);
}

TEST(Math, SpecialValues) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    EXPECT_EQ(exp(0.0f), 1.0f);
    EXPECT_EQ(exp(-kInf), 0.0f);
    EXPECT_EQ(exp(kInf), kInf);
    EXPECT_EQ(exp(1e30f), kInf);
    EXPECT_EQ(exp(-1e30f), 0.0f);
    EXPECT_EQ(exp(-103.0f), 0x1p-149f);
    EXPECT_EQ(sigmoid(0.0f), 0.5f);
    EXPECT_EQ(sigmoid(kInf), 1.0f);
    EXPECT_EQ(sigmoid(-kInf), 0.0f);
}

TEST(Math, DoublesAreExact) {
    EXPECT_EQ(exp(1.5), std::exp(1.5));
    EXPECT_NEAR(sigmoid(-3.0), 1 / (1 + std::exp(3.0)), 1e-16);
}

}  // namespace
}  // namespace octavo::cpu
