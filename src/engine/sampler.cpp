#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace octavo {

void check_options(const SampleOptions& o) {
    if (!(o.temperature >= 0)) fail_usage("temperature must be 0 or more, got {}", o.temperature);
    if (o.top_k < 0) fail_usage("top-k must be 0 (all) or more, got {}", o.top_k);
    if (!(o.top_p > 0 && o.top_p <= 1)) fail_usage("top-p must be in (0, 1], got {}", o.top_p);
}

std::int32_t argmax(std::span<const float> logits) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
}

std::int32_t sample(std::span<const float> logits, const SampleOptions& o, std::uint64_t sequence,
                    std::uint64_t position) {
    if (o.vocabulary > 0 && o.vocabulary < std::ssize(logits)) {
        logits = logits.first(static_cast<std::size_t>(o.vocabulary));
    }
    if (o.temperature == 0) return argmax(logits);
    std::vector<std::int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto more_likely = [&](std::int32_t a, std::int32_t b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    // Without a cut the order does not matter; with one, only the head has to be sorted.
    std::size_t kept = logits.size();
    if (o.top_k > 0) kept = std::min<std::size_t>(kept, static_cast<std::size_t>(o.top_k));
    if (kept < logits.size() || o.top_p < 1) {
        std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept),
                          order.end(), more_likely);
    }
    order.resize(kept);

    const double largest = logits[argmax(logits)];
    std::vector<double> cumulative(kept);
    double sum = 0;
    for (std::size_t i = 0; i < kept; ++i) {
        sum += std::exp((logits[order[i]] - largest) / o.temperature);
        cumulative[i] = sum;
    }
    if (o.top_p < 1) {
        const auto end = std::lower_bound(cumulative.begin(), cumulative.end(), o.top_p * sum);
        kept = std::min(kept, static_cast<std::size_t>(end - cumulative.begin()) + 1);
        sum = cumulative[kept - 1];
    }
    // 53 random bits, so that rare tokens of large vocabularies can be drawn at all.
    const std::uint64_t bits = Rng(o.seed, sequence).bits64(position) >> 11;
    const double target = static_cast<double>(bits) * 0x1p-53 * sum;
    const auto last = cumulative.begin() + static_cast<std::ptrdiff_t>(kept);
    const auto drawn = std::upper_bound(cumulative.begin(), last, target);
    return order[static_cast<std::size_t>(std::min(drawn, last - 1) - cumulative.begin())];
}

}  // namespace octavo
