// From logits to a token. Randomness is a pure function of (seed, sequence, position), so a text
// does not depend on what is generated beside it.
#pragma once

#include <cstdint>
#include <span>

namespace octavo {

struct SampleOptions {
    double temperature = 1;  // 0: the most likely token
    std::int64_t top_k = 0;  // keep the k most likely; 0: all
    double top_p = 1;        // keep the smallest set of most likely tokens with this probability
    std::uint64_t seed = 1;
    std::int64_t vocabulary = 0;  // ids from here on are padding and never drawn; 0: all are tokens
};

// Throws a usage Error naming the option that is out of range.
void check_options(const SampleOptions&);

// The most likely token, the lowest id among equals.
std::int32_t argmax(std::span<const float> logits);

// `logits` (V). `sequence` and `position` are the counters of the random number.
std::int32_t sample(std::span<const float> logits, const SampleOptions&, std::uint64_t sequence,
                    std::uint64_t position);

}  // namespace octavo
