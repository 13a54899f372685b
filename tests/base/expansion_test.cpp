#include "base/expansion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/float8.h"
#include "base/rng.h"

namespace octavo {
namespace {

struct Expanded {
    std::vector<std::uint8_t> codes;
    std::vector<Expansion> groups;
    std::vector<float> back;
};

Expanded expanded(const std::vector<float>& x) {
    const std::size_t groups = (x.size() + kExpansionGroup - 1) / kExpansionGroup;
    Expanded e{std::vector<std::uint8_t>(x.size()), std::vector<Expansion>(groups), x};
    expand(x.data(), std::ssize(x), e.codes.data(), e.groups.data());
    contract(e.codes.data(), e.groups.data(), std::ssize(x), e.back.data());
    return e;
}

using Codes = std::vector<std::uint8_t>;

// Worked examples, by a program in f64.
TEST(Expansion, GoldenVectors) {
    const Expanded a = expanded({1, -0.25f, 0.0625f, 0.5f, 0});
    EXPECT_EQ(a.codes, (Codes{0x7e, 0xbc, 0x02, 0x5d, 0x00}));
    EXPECT_EQ(a.groups[0].centre, 0.25f);
    EXPECT_EQ(a.groups[0].power, 4.125f);
    EXPECT_NEAR(a.groups[0].scale, 0.6795469f, 1e-6);
    const float back[] = {1, -0.251162f, 0.059354f, 0.501522f, 0};
    for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(a.back[i], back[i], 1e-6);

    const Expanded b = expanded({1, 1e-3f, 1e-7f});
    EXPECT_EQ(b.codes, (Codes{0x7e, 0x48, 0x04}));
    EXPECT_EQ(b.groups[0].power, 0.6875f);
    EXPECT_NEAR(b.back[0], 1, 1e-6);
    EXPECT_NEAR(b.back[1], 1.04549e-3, 1e-8);
    EXPECT_NEAR(b.back[2], 1.19829e-7, 1e-12);

    const Expanded c = expanded({3e-4f, -1e-4f, 2e-5f, 7e-6f});
    EXPECT_EQ(c.codes, (Codes{0x7e, 0xd7, 0x1e, 0x02}));
    EXPECT_EQ(c.groups[0].power, 3.0625f);
    const Expanded d = expanded({0.3f, 0.3f});
    EXPECT_EQ(d.codes, (Codes{0x7e, 0x7e}));
    EXPECT_EQ(d.groups[0].power, 16.0f);
}

// One in thousands of all floats.
TEST(Expansion, LogarithmsAndPowersAreThoseOfDoubles) {
    double log_error = 0, power_error = 0;
    for (std::uint32_t bits = 1; bits < 0x7F800000; bits += 1999) {
        const auto x = std::bit_cast<float>(bits);
        const Log2 l = log2_of(x);
        EXPECT_LE(std::abs(l.fraction), 0.5f);
        log_error = std::max(log_error, std::abs(l.whole - std::log2(double{x}) + l.fraction));
        const float power = static_cast<float>(bits % 256 + 1) / 16;
        const float log = (static_cast<float>(bits % 2001) / 1000 - 1) * 120 / power;
        const double want = std::exp2(double{power} * log);
        power_error = std::max(power_error, std::abs(times_power(1, power, log) / want - 1));
    }
    EXPECT_LT(log_error, 1e-7);
    EXPECT_LT(power_error, 1e-7);
    for (const float x : {1 + 0x1p-23f, 1 - 0x1p-24f, 1.001f}) {
        EXPECT_NEAR(log2_of(x).fraction / std::log2(double{x}), 1, 2e-7);
    }
    // Results and factors that are no normal numbers.
    EXPECT_EQ(times_power(0x1p-100f, 16, -2.5f), 0x1p-140f);
    EXPECT_EQ(times_power(0x1p-20f, 1, 140), 0x1p120f);
}

// Of 128 equal values, of zeros, of one element, and of all but the whole range of f32.
TEST(Expansion, OddGroups) {
    for (const float x : {0.3f, 1.0f, 7e-42f, 3e38f, -5.5f}) {
        for (const std::size_t n : {1, 5, 128, 129, 300}) {
            const Expanded e = expanded(std::vector<float>(n, x));
            for (std::size_t i = 0; i < n; ++i) {
                EXPECT_EQ(e.codes[i], x > 0 ? 0x7e : 0xfe);
                EXPECT_NEAR(e.back[i], x, std::abs(x) * 2e-6f + 0x1p-149f);
            }
            for (const Expansion& group : e.groups) EXPECT_EQ(group.power, 16.0f);
        }
    }
    const Expanded zeros = expanded(std::vector<float>(130));
    EXPECT_EQ(zeros.codes, Codes(130));
    EXPECT_EQ(zeros.back, std::vector<float>(130));
    EXPECT_EQ(zeros.groups[1], (Expansion{0, 1, 1}));
    // As memory is before anything is written.
    const Expansion none{0, 0, 0};
    float back = 1;
    contract(zeros.codes.data(), &none, 1, &back);
    EXPECT_EQ(back, 0.0f);
    const Expanded wide = expanded({3e38f, 1e-45f, 1, -0.0f});
    EXPECT_EQ(wide.groups[0].power, 0.0625f);
    EXPECT_EQ(wide.codes[0], 0x7e);
    EXPECT_NE(wide.codes[1], 0);
    EXPECT_EQ(wide.codes[3], 0);
    for (const float x : wide.back) EXPECT_TRUE(std::isfinite(x));
    // 0 and neighbours in any place: the least that is not 0 counts.
    for (std::size_t at = 0; at < 128; at += 9) {
        std::vector<float> x(128, 1.0f);
        x[at] = 0;
        x[(at + 1) % 128] = 0.25f;
        const Expanded e = expanded(x);
        EXPECT_EQ(e.groups[0].centre, 0.5f);
        EXPECT_EQ(e.codes[at], 0);
        EXPECT_NEAR(e.back[(at + 1) % 128], 0.25f, 0.25f * 0.05f);
    }
}

TEST(Expansion, WhatIsNotFiniteStaysSo) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
        std::vector<float> x(256, 1.0f);
        x[5] = bad;
        const Expanded e = expanded(x);
        for (std::size_t i = 0; i < 128; ++i) EXPECT_TRUE(std::isnan(e.back[i])) << i;
        for (std::size_t i = 128; i < 256; ++i) EXPECT_NEAR(e.back[i], 1, 1e-6);
    }
}

// v that is not 0 gets at least 448 / 100352, 2.29 times the smallest code.
TEST(Expansion, NothingBecomesZero) {
    for (int decades = 1; decades < 40; ++decades) {
        std::vector<float> x(128);
        for (std::size_t i = 0; i < 128; ++i) {
            x[i] = std::pow(10.0f, -static_cast<float>(decades) * static_cast<float>(i) / 127);
        }
        const Expanded e = expanded(x);
        for (std::size_t i = 0; i < 128; ++i) EXPECT_GE(e.codes[i], 2) << decades;
        EXPECT_EQ(e.codes[0], 0x7e);
    }
}

double snr_db(const std::vector<float>& x, const std::vector<float>& y) {
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        signal += double{x[i]} * x[i];
        noise += (double{y[i]} - x[i]) * (double{y[i]} - x[i]);
    }
    return 10 * std::log10(signal / noise);
}

// The mean of `squares` squared normal numbers; a normal number itself for 0.
std::vector<float> samples(std::uint64_t squares) {
    std::vector<float> x(std::size_t{1} << 20);
    for (std::uint64_t i = 0; i < x.size(); ++i) {
        if (squares == 0) x[i] = Rng(11, 1).normal(i);
        for (std::uint64_t k = 0; k < squares; ++k) {
            const float n = Rng(11, 2).normal(i * squares + k);
            x[i] += n * n / static_cast<float>(squares);
        }
    }
    return x;
}

// Beside E4M3 under a scale for 128 elements.
TEST(Expansion, SignalToNoise) {
    struct Case {
        std::uint64_t squares;
        double plain, expanded;
    };
    for (const Case& c :
         {Case{0, 31.8, 36.8}, {8, 31.7, 43.8}, {40, 31.4, 50.9}, {1, 32.5, 31.3}}) {
        const std::vector<float> x = samples(c.squares);
        std::vector<float> plain(x.size());
        for (std::size_t at = 0; at < x.size(); at += 128) {
            float top = 0;
            for (std::size_t i = at; i < at + 128; ++i) top = std::max(top, std::abs(x[i]));
            const float scale = top / 448;
            for (std::size_t i = at; i < at + 128; ++i) {
                plain[i] = static_cast<float>(e4m3(x[i] / scale)) * scale;
            }
        }
        EXPECT_NEAR(snr_db(x, plain), c.plain, 0.2) << c.squares;
        EXPECT_NEAR(snr_db(x, expanded(x).back), c.expanded, 0.2) << c.squares;
    }
}

}  // namespace
}  // namespace octavo
