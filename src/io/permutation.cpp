#include "io/permutation.h"

#include <cmath>

#include "base/error.h"
#include "base/rng.h"

namespace octavo {
namespace {

constexpr std::uint64_t kRounds = 4;

std::uint64_t mix(std::uint64_t seed, std::uint64_t stream, std::uint64_t round, std::uint64_t x) {
    // Coordinates are below 2^32, so the round fits above them.
    const PhiloxBlock b = philox(seed, stream, round << 32 | x);
    return std::uint64_t{b[0]} | std::uint64_t{b[1]} << 32;
}

}  // namespace

Permutation::Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t stream)
    : size_(size), seed_(seed), stream_(stream) {
    check(size >= 1 && size < std::uint64_t{1} << 62,
          "permutation: expected between 1 and 2^62 elements, got {}", size);
    // At least two rows: one row would leave nothing but rotations.
    rows_ = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(size))) + 1;
    columns_ = (size + rows_ - 1) / rows_;
}

std::uint64_t Permutation::operator()(std::uint64_t i) const {
    // The grid has fewer than `rows` surplus cells, so a second turn is rare.
    do {
        std::uint64_t row = i / columns_, column = i % columns_;
        for (std::uint64_t round = 0; round < kRounds; ++round) {
            row = (row + mix(seed_, stream_, 2 * round, column) % rows_) % rows_;
            column = (column + mix(seed_, stream_, 2 * round + 1, row) % columns_) % columns_;
        }
        i = row * columns_ + column;
    } while (i >= size_);
    return i;
}

}  // namespace octavo
