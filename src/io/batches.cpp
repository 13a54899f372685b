#include "io/batches.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/rng.h"
#include "io/permutation.h"

namespace octavo {
namespace {

// Streams of Philox that nothing else draws from: "data" in ASCII, then the use.
constexpr std::uint64_t kOffsetStream = 0x64617461'00000000;
constexpr std::uint64_t kShuffleStream = 0x64617461'80000000;  // + epoch

std::string describe(const std::vector<TokenFile>& shards) {
    std::string text = shards.front().path().string();
    if (shards.size() > 1) text += fmt::format(" and {} more", shards.size() - 1);
    return text;
}

}  // namespace

BatchSource::BatchSource(std::vector<TokenFile> shards, const BatchOptions& options)
    : shards_(std::move(shards)), options_(options) {
    const std::int64_t t = options_.sequence_length;
    check(!shards_.empty(), "batches: expected at least one token file, got none");
    check(t > 0, "batches: expected a sequence length of at least 1, got {}", t);
    starts_.push_back(0);
    for (const TokenFile& shard : shards_) {
        shard.check_vocabulary(options_.vocabulary);
        starts_.push_back(starts_.back() + shard.size());
    }
    const std::int64_t n = tokens();
    check(n > t,
          "{}: sequence longer than the data: a window of {} tokens and its last target need {} "
          "tokens, the data has {}\n"
          "  Use more data, or a sequence length of at most {}.",
          describe(shards_), t, t + 1, n, n - 1);
    if (options_.order == Order::shuffled) {
        // As many offsets as leave every epoch the same number of windows, and at least one.
        offsets_ = std::min(t, n - t);
    }
    windows_ = (n - offsets_) / t;
}

std::int64_t BatchSource::window_begin(std::int64_t sample) const {
    const std::int64_t t = options_.sequence_length;
    if (options_.order == Order::sequential) {
        check(sample >= 0 && sample < windows_,
              "batches: expected a sample below the {} windows of the data, got {}", windows_,
              sample);
        return sample * t;
    }
    check(sample >= 0, "batches: expected a sample number of at least 0, got {}", sample);
    const auto epoch = static_cast<std::uint64_t>(sample / windows_);
    const auto place = static_cast<std::uint64_t>(sample % windows_);
    const auto offset = static_cast<std::int64_t>(Rng(options_.seed, kOffsetStream).bits64(epoch) %
                                                  static_cast<std::uint64_t>(offsets_));
    const Permutation order(static_cast<std::uint64_t>(windows_), options_.seed,
                            kShuffleStream + epoch);
    return offset + static_cast<std::int64_t>(order(place)) * t;
}

void BatchSource::read(std::int64_t begin, std::span<std::int32_t> out) const {
    auto next = std::upper_bound(starts_.begin(), starts_.end(), begin);  // start of the next shard
    while (!out.empty()) {
        const auto shard = static_cast<std::size_t>(next - starts_.begin()) - 1;
        const std::size_t n = std::min(out.size(), static_cast<std::size_t>(*next - begin));
        shards_[shard].read(begin - starts_[shard], out.first(n));
        out = out.subspan(n);
        begin = *next++;
    }
}

void BatchSource::get(std::int64_t sample, std::span<std::int32_t> inputs,
                      std::span<std::int32_t> targets) const {
    const auto t = static_cast<std::size_t>(options_.sequence_length);
    check(inputs.size() == t && targets.size() == t,
          "batches: expected inputs and targets of {} tokens, got {} and {}", t, inputs.size(),
          targets.size());
    const std::int64_t begin = window_begin(sample);
    read(begin, inputs);
    read(begin + 1, targets);
}

void BatchSource::batch(std::int64_t batch, std::span<std::int32_t> inputs,
                        std::span<std::int32_t> targets, int rank, int ranks) const {
    const auto t = static_cast<std::size_t>(options_.sequence_length);
    check(!inputs.empty() && inputs.size() % t == 0 && inputs.size() == targets.size(),
          "batches: expected inputs and targets of B x {} tokens, got {} and {}", t, inputs.size(),
          targets.size());
    check(rank >= 0 && rank < ranks, "batches: expected a rank below {}, got {}", ranks, rank);
    const std::size_t rows = inputs.size() / t;
    for (std::size_t b = 0; b < rows; ++b) {
        const std::int64_t row =
            batch * static_cast<std::int64_t>(rows) + static_cast<std::int64_t>(b);
        get(row * ranks + rank, inputs.subspan(b * t, t), targets.subspan(b * t, t));
    }
}

}  // namespace octavo
