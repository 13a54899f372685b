#include "io/mixture.h"

#include <algorithm>
#include <cmath>
#include <iterator>
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

std::vector<std::uint64_t> shares_of(const std::vector<double>& weights, std::size_t sources) {
    check(weights.size() == sources, "mixture: expected a weight for each of {} sources, got {}",
          sources, weights.size());
    for (const double w : weights) {
        check(std::isfinite(w) && w >= 0, "mixture: expected weights of at least 0, got {}", w);
    }
    const auto read =
        std::ranges::find_if(weights.rbegin(), weights.rend(), [](double w) { return w > 0; });
    check(read != weights.rend(), "mixture: expected a weight above 0, got none");
    const std::size_t last = weights.size() - 1 - static_cast<std::size_t>(read - weights.rbegin());
    // By a power of two, so that their sum is finite and their ratios stay what they are.
    const int exponent = std::ilogb(*std::ranges::max_element(weights));
    const auto scaled = [&](double w) { return std::scalbn(w, -exponent); };
    double rest = 0;
    for (const double w : weights) rest += scaled(w);
    std::vector<std::uint64_t> shares;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        // The last has all: rounding could leave something to those that are not read.
        const double share = i >= last ? 1 : std::min(1.0, scaled(weights[i]) / rest);
        shares.push_back(static_cast<std::uint64_t>(std::llround(share * kWhole)));
        rest -= scaled(weights[i]);
    }
    return shares;
}

}  // namespace

Mixture::Mixture(std::vector<BatchSource> sources, std::span<const MixtureStage> stages)
    : sources_(std::move(sources)) {
    check(!sources_.empty(), "mixture: expected sources, got none");
    for (const BatchSource& source : sources_) {
        const BatchOptions &o = source.options(), &first = sources_[0].options();
        check(o.sequence_length == first.sequence_length && o.documents == first.documents,
              "mixture: expected sources of one sequence length, got {} and {}",
              first.sequence_length, o.sequence_length);
    }
    check(!stages.empty() && stages[0].begin == 0, "mixture: expected a stage from sample 0 on");
    std::vector<std::int64_t> before(sources_.size());
    for (const MixtureStage& stage : stages) {
        if (!stages_.empty()) {
            const Stage& last = stages_.back();
            check(stage.begin > last.begin,
                  "mixture: expected stages that begin one after the other, got {} and {}",
                  last.begin, stage.begin);
            before = counts(stage.begin);
        }
        stages_.push_back({stage.begin, shares_of(stage.weights, sources_.size()), before});
    }
}

std::int64_t Mixture::tokens() const {
    return std::accumulate(sources_.begin(), sources_.end(), std::int64_t{0},
                           [](std::int64_t n, const BatchSource& s) { return n + s.tokens(); });
}

const Mixture::Stage& Mixture::stage_of(std::int64_t sample) const {
    return *std::prev(std::ranges::upper_bound(stages_, sample, {}, &Stage::begin));
}

// The first source takes its share of all samples, the second its share of what is left, and so on:
// a source takes the sample at which its rounded count rises.
Mixture::Place Mixture::place(std::int64_t sample) const {
    check(sample >= 0, "mixture: expected a sample number of at least 0, got {}", sample);
    const Stage& stage = stage_of(sample);
    sample -= stage.begin;
    for (std::size_t i = 0;; ++i) {
        const std::int64_t before = part(sample, stage.shares[i]);
        if (part(sample + 1, stage.shares[i]) > before) return {i, stage.before[i] + before};
        sample -= before;
    }
}

std::vector<std::int64_t> Mixture::counts(std::int64_t samples) const {
    const Stage& stage = stage_of(samples);
    std::vector<std::int64_t> counts = stage.before;
    samples -= stage.begin;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const std::int64_t n = part(samples, stage.shares[i]);
        counts[i] += n;
        samples -= n;
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
