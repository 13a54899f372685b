#include "exchange/auto_scale.h"

#include <algorithm>
#include <cmath>

namespace octavo {
namespace {

constexpr int kUnits = 1000;  // of L in a factor of two
constexpr int kLowest = -16000, kHighest = 1000;

}  // namespace

int initial_log_mu(int ranks) {
    return static_cast<int>(std::lround(-kUnits / 2.0 * std::log2(ranks)));
}

float mu_of(int log_mu) { return static_cast<float>(std::exp2(log_mu / double{kUnits})); }

int next_log_mu(int log_mu, double saturated, const AutoScaleRule& rule) {
    const int next = saturated > rule.threshold ? log_mu - kUnits : log_mu + rule.growth;
    return std::clamp(next, kLowest, kHighest);
}

double saturated_share(std::span<const e4m3> codes) {
    if (codes.empty()) return 0;
    const auto top = std::ranges::count_if(
        codes, [](e4m3 x) { return (x.bits & 0x7F) == e4m3::kFormat.max_code; });
    return static_cast<double>(top) / static_cast<double>(codes.size());
}

double largest_saturated_share(std::span<const std::vector<e4m3>> codes) {
    double largest = 0;
    for (const std::vector<e4m3>& rank : codes) {
        largest = std::max(largest, saturated_share(rank));
    }
    return largest;
}

}  // namespace octavo
