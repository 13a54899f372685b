// Several sources in fixed shares, as a pure function: sample number -> source and its sample.
//
// Of the first n samples, a source gets n times its share, to within half a sample for each source
// there is, at every n: shares hold in every step, not only on average. Each source counts its own
// samples, and so has epochs of its own. Ranks share a mixture as they share a source:
// rank r of w takes the samples with number % w = r.
//
// Shares may change at given samples. Each stage then holds its own to within the same, counted
// from its beginning; sources go on where the stage before left them, and one that a stage does not
// read stays where it is.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "io/batches.h"

namespace octavo {

struct MixtureStage {
    std::int64_t begin = 0;       // its first sample
    std::vector<double> weights;  // finite, at least 0 and not all 0, one for each source
};

class Mixture {
  public:
    // Only ratios of weights count. Sources must agree in sequence length and documents. The first
    // stage begins at sample 0, and each later than the one before.
    Mixture(std::vector<BatchSource> sources, std::span<const MixtureStage> stages);
    Mixture(std::vector<BatchSource> sources, const std::vector<double>& weights)
        : Mixture(std::move(sources), std::vector<MixtureStage>{{0, weights}}) {}

    const std::vector<BatchSource>& sources() const { return sources_; }
    std::int64_t tokens() const;  // of all sources

    struct Place {
        std::size_t source = 0;
        std::int64_t sample = 0;  // of the source
    };
    Place place(std::int64_t sample) const;
    // How many of the first `samples` samples are of each source.
    std::vector<std::int64_t> counts(std::int64_t samples) const;

    // One window, as BatchSource::get.
    void get(std::int64_t sample, const BatchSpans& out) const;
    // Batch number `batch` of `rank`, with B from the size of its spans. The samples of a step are
    // dealt out in turn, so a step sees the same samples on any number of ranks as long as B x
    // ranks stays the same.
    void batch(std::int64_t batch, const BatchSpans& out, int rank = 0, int ranks = 1) const;

  private:
    struct Stage {
        std::int64_t begin;
        // Of each source, its share of what those before it leave, in units of 2^-32; the last that
        // is read has all.
        std::vector<std::uint64_t> shares;
        std::vector<std::int64_t> before;  // samples of each source in earlier stages
    };
    const Stage& stage_of(std::int64_t sample) const;

    std::vector<BatchSource> sources_;
    std::vector<Stage> stages_;
};

}  // namespace octavo
