// The order in which training sees its tokens, as a pure function: sample number -> window.
//
// The shards count as one long stream. An epoch cuts it into disjoint windows of `sequence_length`
// tokens (each with one more token, the last target, shared with the next window) from an offset
// that changes every epoch, and visits them in an order that changes every epoch. Nothing is
// remembered: the position of a run is one integer, and any number of ranks can share a stream.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/token_file.h"

namespace octavo {

enum class Order {
    shuffled,    // endless epochs, each with its own offset and permutation
    sequential,  // one pass from the first token on: evaluation
};

struct BatchOptions {
    std::int64_t sequence_length = 0;  // T
    std::int64_t vocabulary = 0;       // every id in the shards must be below it
    std::uint64_t seed = 0;
    Order order = Order::shuffled;
};

class BatchSource {
  public:
    // Scans the shards for ids outside the vocabulary. Throws Error for those, and if the data is
    // shorter than one window.
    BatchSource(std::vector<TokenFile> shards, const BatchOptions& options);

    std::int64_t tokens() const { return starts_.back(); }
    std::int64_t sequence_length() const { return options_.sequence_length; }
    // Windows in one epoch. At most one window fewer than would fit without the offset.
    std::int64_t windows() const { return windows_; }

    // inputs (T), targets (T): targets[t] is the token after inputs[t]. `sample` >= 0, and below
    // windows() if sequential. Safe to call from several threads.
    void get(std::int64_t sample, std::span<std::int32_t> inputs,
             std::span<std::int32_t> targets) const;

    // Batch number `batch` of `rank`: inputs (B, T), targets (B, T), with B from their size. The
    // samples of a step are dealt out in turn, so a step sees the same samples on any number of
    // ranks as long as B x ranks stays the same.
    void batch(std::int64_t batch, std::span<std::int32_t> inputs, std::span<std::int32_t> targets,
               int rank = 0, int ranks = 1) const;

  private:
    std::int64_t window_begin(std::int64_t sample) const;
    void read(std::int64_t begin, std::span<std::int32_t> out) const;

    std::vector<TokenFile> shards_;
    std::vector<std::int64_t> starts_;  // first token of each shard, and the total
    BatchOptions options_;
    std::int64_t offsets_ = 1;  // epochs start at an offset in [0, offsets_)
    std::int64_t windows_ = 0;
};

}  // namespace octavo
