// Draws a token from logits. Randomness is a pure function of (seed, request, sample, position), so
// a text does not depend on what is generated beside it. What is drawn is specified in
// ops/sample.cpp.
#pragma once

#include <cstdint>
#include <span>

namespace octavo {

// The random bits of token `position` of the request's sample.
std::uint32_t sample_bits(std::uint64_t seed, std::uint64_t request, std::uint32_t sample,
                          std::uint32_t position);

struct Draw {
    float temperature = 1, top_p = 1;
    std::int32_t top_k = 0;  // 0: all
    std::uint32_t random = 0;
    std::int32_t given = -1;  // a token to score; negative: one is drawn
};

struct Drawn {
    std::int32_t token;
    float log_probability;
};

// At most kMostLogits logits (base/sample_rule.h).
Drawn draw(std::span<const float> logits, const Draw&);

}  // namespace octavo
