// Stochastic rounding to bf16: up or down with the probabilities that make it right on average, so
// that steps much smaller than a quantum still add up. For every backend alike.
#pragma once

#include <bit>
#include <cstdint>

#include "base/float16.h"
#include "base/rng.h"

namespace octavo {

// `random` is uniform in [0, 2^16). Infinities stay; NaN is rounded as ever.
constexpr bf16 round_stochastically(float x, std::uint32_t random) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7F800000) == 0x7F800000) return bf16(x);
    return bf16::from_bits(static_cast<std::uint16_t>((bits + random) >> 16));
}

// The random numbers of eight neighbours in up to three tensors: a function of stream and step
// alone.
class RoundingNoise {
  public:
    // Elements 8 * packet to 8 * packet + 7.
    constexpr RoundingNoise(std::uint64_t stream, std::int32_t step, std::uint64_t packet)
        : block_(philox(static_cast<std::uint32_t>(step), stream, packet)) {}

    // Of element k of the packet in one of the tensors, in [0, 2^16). Tensors after the first mix
    // in another word, rotated, so that any two numbers are independent: rounding needs no more,
    // and a Philox block for each tensor would cost more than the step itself.
    constexpr std::uint32_t operator()(int tensor, int k) const {
        const int word = k / 2;
        std::uint32_t bits = block_[word];
        if (tensor > 0) bits ^= std::rotl(block_[(word + tensor) % 4], 8);
        return bits >> (k % 2 * 16) & 0xFFFF;
    }

  private:
    PhiloxBlock block_;
};

}  // namespace octavo
