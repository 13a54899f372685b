// Several sources in fixed shares, as a pure function: sample number -> source and its sample.
//
// Of the first n samples, a source gets n times its share, to within half a sample for each source
// there is, at every n: shares hold in every step, not only on average. Each source counts its own
// samples, and so has epochs of its own. Ranks share a mixture as they share a source:
// rank r of w takes the samples with number % w = r.
#pragma once

#include <cstdint>
#include <vector>

#include "io/batches.h"

namespace octavo {

class Mixture {
  public:
    // Weights are finite and positive, one for each source; only their ratios count. Sources must
    // agree in sequence length and documents.
    Mixture(std::vector<BatchSource> sources, const std::vector<double>& weights);

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
    std::vector<BatchSource> sources_;
    // Of each source, its share of what those before it leave, in units of 2^-32; the last has all.
    std::vector<std::uint64_t> shares_;
};

}  // namespace octavo
