// The arithmetic of sampling, for every backend alike: plain code that also compiles for a GPU.
//
// The mass of a token is exp(z - max) in fixed point. Sums of integers are exact, so neither the
// order of additions nor the backend can change a token; and the exponential is written out, since
// those of libraries differ in their last bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/power.h"

namespace octavo {

using Mass = std::uint64_t;

inline constexpr int kMassBits = 44;
inline constexpr double kMassUnit = 0x1p-44;
inline constexpr std::int64_t kMostLogits = std::int64_t{1} << 19;  // their masses fit 64 bits

// Logits as integers of the same order; -0 is 0.
constexpr std::uint32_t order_key(float z) {
    constexpr std::uint32_t kSign = 0x80000000;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(z);
    if (bits == kSign) return kSign;
    return (bits & kSign) != 0 ? ~bits : bits | kSign;
}
constexpr float logit_of(std::uint32_t key) {
    constexpr std::uint32_t kSign = 0x80000000;
    return std::bit_cast<float>((key & kSign) != 0 ? key ^ kSign : ~key);
}

// A logit with its id: the largest is the most likely token, the lowest id among equals. What is
// not finite ranks above all that is.
constexpr std::uint64_t ranked(float z, std::int32_t id) {
    if (!is_finite(z)) return ~std::uint64_t{0};
    return std::uint64_t{order_key(z)} << 32 | ~static_cast<std::uint32_t>(id);
}
constexpr std::int32_t ranked_id(std::uint64_t rank) {
    return static_cast<std::int32_t>(~static_cast<std::uint32_t>(rank));
}
constexpr float ranked_logit(std::uint64_t rank) {
    return logit_of(static_cast<std::uint32_t>(rank >> 32));
}

// exp(z - max) for z <= max, to the nearest unit; off by less than 0.7 of one.
constexpr Mass mass_of(float z, float max) {
    constexpr double kLowest = -40;      // rounds to 0, as does what lies below
    constexpr double kRound = 0x1.8p52;  // adding it rounds to an integer, which are its low bits
    constexpr double kLn2High = 0x1.62e42fefa38p-1;  // its few bits make n kLn2High exact
    constexpr double kLn2Low = 0x1.ef35793c7673p-45;
    const double all = static_cast<double>(z) - static_cast<double>(max);
    const double d = all < kLowest ? kLowest : all;
    const double shifted = fma(d, 0x1.71547652b82fep0, kRound), n = shifted - kRound;
    const double r = fma(n, -kLn2Low, fma(n, -kLn2High, d));  // d = n ln 2 + r
    double p = 1.0 / 39916800;                                // e^r = sum of r^i / i!
    p = fma(p, r, 1.0 / 3628800);
    p = fma(p, r, 1.0 / 362880);
    p = fma(p, r, 1.0 / 40320);
    p = fma(p, r, 1.0 / 5040);
    p = fma(p, r, 1.0 / 720);
    p = fma(p, r, 1.0 / 120);
    p = fma(p, r, 1.0 / 24);
    p = fma(p, r, 1.0 / 6);
    p = fma(p, r, 0.5);
    p = fma(p, r, 1.0);
    p = fma(p, r, 1.0);
    // 2^(n + 44): the low bits of `shifted` are n, the sign and the rest fall off its end.
    const double unit = std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) << 52) +
                                              (std::uint64_t{1023 + kMassBits} << 52));
    return std::bit_cast<std::uint64_t>(fma(p, unit, kRound)) -
           std::bit_cast<std::uint64_t>(kRound);
}

// A running sum passes u * total when it exceeds floor(u * total), which this is, exactly, for
// u = ((random >> 8) + 0.5) 2^-24.
constexpr Mass draw_target(std::uint32_t random, Mass total) {
    constexpr Mass kLow = (Mass{1} << 25) - 1;
    const Mass u = 2 * (random >> 8) + 1;  // times 2^-25
    return u * (total >> 25) + (u * (total & kLow) >> 25);
}

// The mass is below p * total where it is below this; at least 1, so that something stays.
constexpr Mass top_p_limit(float p, Mass total) {
    const double limit = static_cast<double>(p) * static_cast<double>(total);
    if (!(limit > 1)) return 1;
    const Mass whole = static_cast<Mass>(limit);
    return whole + (static_cast<double>(whole) < limit ? 1 : 0);
}

// What top-k and top-p leave: keys above `key`, and of those equal to it the ids up to `last`.
struct Cut {
    std::uint32_t key = 0;
    std::int32_t last = 0x7FFFFFFF;

    constexpr bool keeps(std::uint32_t k, std::int32_t id) const {
        return k > key || (k == key && id <= last);
    }
};

// The key at which the masses of all tokens, added from the largest key on, reach a limit, and the
// mass of the larger ones.
struct Border {
    std::uint32_t key = 0;
    Mass above = 0;

    // How many tokens of the key, of this mass each, it takes to get there.
    constexpr Mass ties(Mass limit, Mass each) const { return (limit - above - 1) / each + 1; }
};

}  // namespace octavo
