// Collectives over values under scales of their own, value = data 2^exponent, as Scalify (arXiv
// 2407.17353) leaves them on ranks whose measured scales differ. All are brought to the largest
// scale first; data stays near 1 if it was, since the sum of N independent values grows by sqrt(N).
// As in gradient_reduction.h, these are definitions: products and sums in f32, in rank order.
#pragma once

#include <span>
#include <vector>

namespace octavo {

struct ScaledData {
    std::vector<float> data;
    int exponent = 0;
    bool operator==(const ScaledData&) const = default;
};

// The largest exponent; the sum, times 1 / N.
ScaledData scaled_mean(std::span<const ScaledData> ranks);
// The exponent grows by h, 2^h the largest power of two up to sqrt(N).
ScaledData scaled_sum(std::span<const ScaledData> ranks);
// One rank's data behind the other's.
ScaledData scaled_gather(std::span<const ScaledData> ranks);

}  // namespace octavo
