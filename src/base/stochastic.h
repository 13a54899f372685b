// Stochastic rounding to bf16 and to the formats that are kept under a scale: up or down with the
// probabilities that make it right on average, so that steps much smaller than a quantum still add
// up. For every backend alike.
#pragma once

#include <bit>
#include <cstdint>

#include "base/float16.h"
#include "base/float8.h"
#include "base/rng.h"
#include "base/scale_rule.h"

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

// ---- Formats under a scale ---------------------------------------------------------------------

// Of the smallest normal value.
template <class T>
constexpr int min_exponent() {
    return 2 - (1 << (T::kFormat.exponent_bits - 1));
}
// The smallest positive value.
template <class T>
constexpr float min_subnormal() {
    return power_of_two(min_exponent<T>() - T::kFormat.mantissa_bits);
}

// A neighbour of y among the values of T = e4m3, e5m2 or f16, which a cast then keeps: the one of
// larger magnitude if the top 24 bits of `word` make a number in [0, 1) below the share of the
// quantum that y lies above the smaller one. Beyond the largest value the cast saturates.
template <class T>
constexpr float round_stochastically_to(float y, std::uint32_t word) {
    constexpr int kMantissa = T::kFormat.mantissa_bits, kMin = min_exponent<T>();
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(y), sign = bits & 0x80000000u;
    if ((bits & 0x7F800000) == 0x7F800000) return y;
    const int exponent = static_cast<int>(bits >> 23 & 0xFF) - 127;
    const int quantum = (exponent < kMin ? kMin : exponent) - kMantissa;
    const float quanta = std::bit_cast<float>(bits ^ sign) * power_of_two(-quantum);
    const int below = static_cast<int>(quanta);
    const bool up = to_uniform(word) < quanta - static_cast<float>(below);
    const float rounded = static_cast<float>(below + (up ? 1 : 0)) * power_of_two(quantum);
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(rounded) | sign);
}

// What is rounded beside the moments, which are states 0 and 1 of a weight: the gradient of a
// layer's result, whose step is the number of its micro-batch in the run.
inline constexpr std::uint32_t kOutputGradient = 3;

// The random words of a tensor in one step, a function of the element's index in the whole tensor:
// the counter is (element / 4, tensor, step, which of the tensor's states).
struct StateNoise {
    std::uint64_t seed = 0;
    std::uint32_t tensor = 0, step = 0;

    // Of elements 4 * quad to 4 * quad + 3.
    constexpr PhiloxBlock operator()(std::uint32_t state, std::uint64_t quad) const {
        const std::uint64_t high = std::uint64_t{state} << 32 | step;
        const std::uint64_t low = std::uint64_t{tensor} << 32 | static_cast<std::uint32_t>(quad);
        return philox(seed, high, low);
    }
};

}  // namespace octavo
