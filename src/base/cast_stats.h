// What a cast to 8 bits did to a tensor, and the arithmetic that finds it out: the same on every
// backend, plain code that also compiles for a GPU.
#pragma once

#include <bit>
#include <cstdint>

namespace octavo {

// All f32, in this order, as the op MeasureCast leaves them.
struct CastStats {
    float amax = 0;       // of the values before the cast; infinite or NaN if one of them is
    float scale_min = 0;  // what a code of 1 stood for: the smallest and the largest of the tensor,
    float scale_max = 0;  // in micro groups the group's power of two included; NaN if one is
    float saturated = 0;  // share of the values that lie beyond the largest code
    float flushed = 0;    // share of the values other than 0 that became 0
    float error = 0;      // sqrt(sum (x - x^)^2 / sum x^2); NaN if not everything is finite
};
inline constexpr std::int64_t kCastStats = sizeof(CastStats) / sizeof(float);

// What values add to the sums of their tensor.
struct CastTerms {
    double signal, noise;
    std::int64_t saturated, flushed, nonzero;
    std::uint32_t amax;  // of magnitudes, which order like their bits, NaN above infinity
};

constexpr std::uint32_t magnitude_of(float x) {
    return std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFu;
}

// x became `code`, which stands for code * factor and can be `max` at most. Exact scales map the
// amax to `max` only up to rounding, which is no saturation.
constexpr CastTerms cast_terms(float x, float code, double factor, double max) {
    const double value = x, difference = value - code * factor;
    const bool saturates = (value < 0 ? -value : value) > max * factor * (1 + 0x1p-20);
    return {value * value, difference * difference, saturates, x != 0 && code == 0,
            x != 0,        magnitude_of(x)};
}

// Sums over elements, to be added in an order that the shape fixes.
struct CastSums {
    double signal = 0, noise = 0;
    std::int64_t saturated = 0, flushed = 0, nonzero = 0;
    std::uint32_t amax = 0, scale_max = 0, scale_min = 0xFFFFFFFF;

    constexpr void add(const CastTerms& t) {
        signal += t.signal;
        noise += t.noise;
        saturated += t.saturated;
        flushed += t.flushed;
        nonzero += t.nonzero;
        raise(amax, t.amax);
    }
    constexpr void note_factor(double factor) {
        const std::uint32_t bits = magnitude_of(static_cast<float>(factor));
        raise(scale_max, bits);
        if (bits < scale_min) scale_min = bits;
    }
    constexpr void add(const CastSums& s) {
        add(CastTerms{s.signal, s.noise, s.saturated, s.flushed, s.nonzero, s.amax});
        raise(scale_max, s.scale_max);
        if (s.scale_min < scale_min) scale_min = s.scale_min;
    }

    static constexpr void raise(std::uint32_t& top, std::uint32_t bits) {
        if (top < bits) top = bits;
    }
};

constexpr float share_of(std::int64_t part, std::int64_t whole) {
    return whole == 0 ? 0.0f
                      : static_cast<float>(static_cast<double>(part) / static_cast<double>(whole));
}

// `root` is a square root in f64, which is not the same function everywhere.
template <class Root>
constexpr CastStats cast_stats(const CastSums& s, std::int64_t elements, Root&& root) {
    CastStats stats;
    if (elements == 0) return stats;
    stats.amax = std::bit_cast<float>(s.amax);
    stats.scale_min = std::bit_cast<float>(s.scale_min);
    stats.scale_max = std::bit_cast<float>(s.scale_max);
    stats.saturated = share_of(s.saturated, elements);
    stats.flushed = share_of(s.flushed, s.nonzero);
    stats.error = s.noise == 0 ? 0.0f : static_cast<float>(root(s.noise / s.signal));
    return stats;
}

}  // namespace octavo
