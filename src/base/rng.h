// Counter-based random numbers: a value is a pure function of (seed, stream, index), so results do
// not depend on threads, batching or what was drawn before, and a checkpoint needs only counters.
//
// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace octavo {

using PhiloxBlock = std::array<std::uint32_t, 4>;

constexpr PhiloxBlock philox(std::uint64_t key, std::uint64_t counter_high,
                             std::uint64_t counter_low) {
    PhiloxBlock c = {
        static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
        static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)};
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0];
        const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c[2];
        c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
             static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return c;
}

// The random stream of what has this name, whatever order is asked in: FNV-1a.
constexpr std::uint64_t random_stream(std::string_view name) {
    std::uint64_t h = 0xcbf29ce484222325;
    for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return h;
}

// Uniform in [0, 1) with 24 bits.
constexpr float to_uniform(std::uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

class Rng {
  public:
    Rng(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

    std::uint32_t bits(std::uint64_t index) const {
        return philox(seed_, stream_, index / 4)[index % 4];
    }
    std::uint64_t bits64(std::uint64_t index) const {
        const PhiloxBlock b = philox(seed_, stream_, index / 2);
        const int i = static_cast<int>(index % 2) * 2;
        return std::uint64_t{b[i]} | std::uint64_t{b[i + 1]} << 32;
    }
    float uniform(std::uint64_t index) const { return to_uniform(bits(index)); }
    // Standard normal by Box-Muller.
    float normal(std::uint64_t index) const {
        const PhiloxBlock b = philox(seed_, stream_, index);
        const double u = (b[0] + 0.5) * 0x1p-32, v = b[1] * 0x1p-32;
        return static_cast<float>(std::sqrt(-2.0 * std::log(u)) *
                                  std::cos(2.0 * std::numbers::pi * v));
    }

  private:
    std::uint64_t seed_, stream_;
};

}  // namespace octavo
