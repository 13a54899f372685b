#include "io/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace octavo {
namespace {

constexpr double kWhole = 0x1p32;

// n * share to the nearest, exactly: how many of n samples a source has had.
std::int64_t part(std::int64_t n, std::uint64_t share) {
    const auto high = static_cast<std::uint64_t>(n) >> 32;
    const auto low = static_cast<std::uint64_t>(n) & 0xffffffff;
    return static_cast<std::int64_t>(high * share + ((low * share + 0x80000000) >> 32));
}

}  // namespace

Mixture::Mixture(std::vector<BatchSource> sources, const std::vector<double>& weights)
    : sources_(std::move(sources)) {
    check(!sources_.empty() && sources_.size() == weights.size(),
          "mixture: expected a weight for each of {} sources, got {}", sources_.size(),
          weights.size());
    for (const double w : weights) {
        check(std::isfinite(w) && w > 0, "mixture: expected weights above 0, got {}", w);
    }
    // By a power of two, so that their sum is finite and their ratios stay what they are.
    const int exponent = std::ilogb(*std::ranges::max_element(weights));
    const auto scaled = [&](double w) { return std::scalbn(w, -exponent); };
    double rest = 0;
    for (const double w : weights) rest += scaled(w);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const BatchOptions &o = sources_[i].options(), &first = sources_[0].options();
        check(o.sequence_length == first.sequence_length && o.documents == first.documents,
              "mixture: expected sources of one sequence length, got {} and {}",
              first.sequence_length, o.sequence_length);
        const double share = i + 1 == weights.size() ? 1 : std::min(1.0, scaled(weights[i]) / rest);
        shares_.push_back(static_cast<std::uint64_t>(std::llround(share * kWhole)));
        rest -= scaled(weights[i]);
    }
}

std::int64_t Mixture::tokens() const {
    return std::accumulate(sources_.begin(), sources_.end(), std::int64_t{0},
                           [](std::int64_t n, const BatchSource& s) { return n + s.tokens(); });
}

// The first source takes its share of all samples, the second its share of what is left, and so on:
// a source takes the sample at which its rounded count rises.
Mixture::Place Mixture::place(std::int64_t sample) const {
    check(sample >= 0, "mixture: expected a sample number of at least 0, got {}", sample);
    for (std::size_t i = 0;; ++i) {
        const std::int64_t before = part(sample, shares_[i]);
        if (part(sample + 1, shares_[i]) > before) return {i, before};
        sample -= before;
    }
}

std::vector<std::int64_t> Mixture::counts(std::int64_t samples) const {
    std::vector<std::int64_t> counts;
    for (const std::uint64_t share : shares_) {
        counts.push_back(part(samples, share));
        samples -= counts.back();
    }
    return counts;
}

void Mixture::get(std::int64_t sample, const BatchSpans& out) const {
    const Place at = place(sample);
    sources_[at.source].get(at.sample, out);
}

void Mixture::batch(std::int64_t batch, const BatchSpans& out, int rank, int ranks) const {
    const auto t = static_cast<std::size_t>(sources_[0].sequence_length());
    check(!out.inputs.empty() && out.inputs.size() % t == 0 &&
              out.inputs.size() == out.targets.size(),
          "batches: expected inputs and targets of B x {} tokens, got {} and {}", t,
          out.inputs.size(), out.targets.size());
    check(rank >= 0 && rank < ranks, "batches: expected a rank below {}, got {}", ranks, rank);
    const std::size_t rows = out.inputs.size() / t;
    for (std::size_t b = 0; b < rows; ++b) {
        const std::int64_t row =
            batch * static_cast<std::int64_t>(rows) + static_cast<std::int64_t>(b);
        get(row * ranks + rank, out.rows(b, 1, t));
    }
}

}  // namespace octavo
