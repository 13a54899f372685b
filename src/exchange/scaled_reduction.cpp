#include "exchange/scaled_reduction.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "base/error.h"

namespace octavo {
namespace {

int common_exponent(std::span<const ScaledData> ranks) {
    check(!ranks.empty(), "exchange: expected a tensor of at least one rank, got none");
    return std::ranges::max(ranks, {}, &ScaledData::exponent).exponent;
}

std::vector<float> brought_to(const ScaledData& x, int exponent) {
    std::vector<float> data = x.data;
    for (float& v : data) v = std::ldexp(v, x.exponent - exponent);
    return data;
}

// At the common exponent.
std::vector<float> sum_of(std::span<const ScaledData> ranks) {
    const int exponent = common_exponent(ranks);
    std::vector<float> sum = brought_to(ranks[0], exponent);
    for (const ScaledData& x : ranks.subspan(1)) {
        check(x.data.size() == sum.size(),
              "exchange: expected the same number of elements on all ranks, got {} and {}",
              sum.size(), x.data.size());
        std::ranges::transform(sum, brought_to(x, exponent), sum.begin(), std::plus<float>{});
    }
    return sum;
}

}  // namespace

ScaledData scaled_mean(std::span<const ScaledData> ranks) {
    ScaledData mean{sum_of(ranks), common_exponent(ranks)};
    const float share = 1.0f / static_cast<float>(ranks.size());
    for (float& v : mean.data) v *= share;
    return mean;
}

ScaledData scaled_sum(std::span<const ScaledData> ranks) {
    const int h = (static_cast<int>(std::bit_width(ranks.size())) - 1) / 2;
    ScaledData sum{sum_of(ranks), common_exponent(ranks) + h};
    for (float& v : sum.data) v = std::ldexp(v, -h);
    return sum;
}

ScaledData scaled_gather(std::span<const ScaledData> ranks) {
    ScaledData all{{}, common_exponent(ranks)};
    for (const ScaledData& x : ranks) {
        const std::vector<float> part = brought_to(x, all.exponent);
        all.data.insert(all.data.end(), part.begin(), part.end());
    }
    return all;
}

}  // namespace octavo
