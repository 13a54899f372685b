// How ranks divide a flat tensor: N parts of ceil(n / N / 16) * 16 elements, so that every part is
// whole packets of 16 bytes in 8 bits. The last ones may be short or empty; what they lack is
// filled with zero codes on the wire.
#pragma once

#include <algorithm>
#include <cstdint>

namespace octavo {

constexpr std::int64_t shard_size(std::int64_t n, int ranks) {
    const std::int64_t packets = 16 * std::int64_t{ranks};
    return (n + packets - 1) / packets * 16;
}

struct Shard {
    std::int64_t begin = 0, end = 0;
    bool operator==(const Shard&) const = default;
};

// The elements of part `rank`.
constexpr Shard shard(std::int64_t n, int ranks, int rank) {
    const std::int64_t size = shard_size(n, ranks);
    return {std::min(n, size * rank), std::min(n, size * (rank + 1))};
}

}  // namespace octavo
