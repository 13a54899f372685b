// How tokens are drawn (ops/sample.cpp).
#pragma once

#include <cstdint>

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

}  // namespace octavo
