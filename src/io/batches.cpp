#include "io/batches.h"

#include <algorithm>

#include "base/error.h"
#include "base/rng.h"
#include "io/permutation.h"

namespace octavo {
namespace {

// Streams of Philox that nothing else draws from: "data" in ASCII, then the use.
constexpr std::uint64_t kOffsetStream = 0x64617461'00000000;
constexpr std::uint64_t kShuffleStream = 0x64617461'80000000;  // + epoch

}  // namespace

Windows windows_named(std::string_view name) {
    if (name == "packed") return Windows::packed;
    return name == "padded" ? Windows::padded : Windows::stream;
}

BatchSpans BatchSpans::rows(std::size_t first, std::size_t count, std::size_t t) const {
    const auto part = [&](std::span<std::int32_t> all) {
        return all.empty() ? all : all.subspan(first * t, count * t);
    };
    return {part(inputs), part(targets), part(starts), part(positions)};
}

Batch::Batch(std::int64_t rows, std::int64_t sequence_length, bool documents) {
    const auto n = static_cast<std::size_t>(rows * sequence_length);
    ids.resize(n);
    targets.resize(n);
    starts.resize(documents ? n : 0);
    positions.resize(documents ? n : 0);
}

std::int64_t Batch::learned() const {
    return std::ranges::count_if(targets, [](std::int32_t id) { return id >= 0; });
}

BatchSource::BatchSource(std::vector<TokenFile> shards, const BatchOptions& options)
    : shards_(std::move(shards)), options_(options) {
    const std::int64_t t = options_.sequence_length;
    check(!shards_.empty(), "batches: expected at least one token file, got none");
    check(t > 0, "batches: expected a sequence length of at least 1, got {}", t);
    const bool matter = options_.documents || options_.windows != Windows::stream;
    starts_.push_back(0);
    for (const TokenFile& shard : shards_) {
        shard.check_contents(options_.vocabulary);
        check(
            !matter || shard.documents() || options_.end_of_text >= 0,
            "{}: nothing says where documents end\n"
            "  Name the token that ends them (data.end_of_text, or --end-of-text of eval), or use "
            "files with an index, such as octavo tokenize makes.",
            shard.path().string());
        starts_.push_back(starts_.back() + shard.size());
        masked_ |= shard.has_mask();
    }
    options_.windows == Windows::stream ? cut_stream() : cut_documents_into_windows();
}

std::string BatchSource::name() const {
    std::string text = shards_.front().path().string();
    if (shards_.size() > 1) text += fmt::format(" and {} more", shards_.size() - 1);
    return text;
}

void BatchSource::cut_stream() {
    const std::int64_t t = options_.sequence_length, n = tokens();
    check(n > t,
          "{}: sequence longer than the data: a window of {} tokens and its last target need {} "
          "tokens, the data has {}\n"
          "  Use more data, or a sequence length of at most {}.",
          name(), t, t + 1, n, n - 1);
    if (options_.order == Order::shuffled) {
        // As many offsets as leave every epoch the same number of windows, and at least one.
        offsets_ = std::min(t, n - t);
    }
    windows_ = (n - offsets_) / t;
}

void BatchSource::cut_documents_into_windows() {
    const std::int64_t longest = options_.sequence_length + 1;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
        bool open = false;  // the last window can take more
        each_document(shards_[i], [&](std::int64_t begin, std::int64_t end) {
            const Range document{starts_[i] + begin, starts_[i] + end};
            if (end - begin < 2) return;  // nothing in it follows anything
            if (open && document.end - ranges_.back().begin <= longest) {
                ranges_.back().end = document.end;
                return;
            }
            const bool cut = end - begin > longest;
            cut_documents_ += cut;
            ranges_.push_back({document.begin, cut ? document.begin + longest : document.end});
            open = options_.windows == Windows::packed && !cut;
        });
    }
    windows_ = std::ssize(ranges_);
    check(windows_ > 0, "{}: expected documents of at least 2 tokens, got none", name());
}

template <class Found>
void BatchSource::each_document(const TokenFile& shard, Found&& found) const {
    std::int64_t begin = 0;
    const auto end_at = [&](std::int64_t end) {
        if (end > begin) found(begin, end);
        begin = end;
    };
    if (const DocumentIndex* index = shard.documents()) {
        for (std::int64_t i = 0; i < index->documents(); ++i) end_at(index->end(i));
    } else {
        for (std::int64_t i = 0; i < shard.size(); ++i) {
            if (shard[i] == options_.end_of_text) end_at(i + 1);
        }
    }
    end_at(shard.size());
}

BatchSource::Range BatchSource::window(std::int64_t sample) const {
    const std::int64_t t = options_.sequence_length;
    check(sample >= 0, "batches: expected a sample number of at least 0, got {}", sample);
    std::int64_t place = sample, offset = 0;
    if (options_.order == Order::sequential) {
        check(sample < windows_,
              "batches: expected a sample below the {} windows of the data, got {}", windows_,
              sample);
    } else {
        const auto epoch = static_cast<std::uint64_t>(sample / windows_);
        const Permutation order(static_cast<std::uint64_t>(windows_), options_.seed,
                                kShuffleStream + epoch);
        offset = static_cast<std::int64_t>(Rng(options_.seed, kOffsetStream).bits64(epoch) %
                                           static_cast<std::uint64_t>(offsets_));
        place = static_cast<std::int64_t>(order(static_cast<std::uint64_t>(sample % windows_)));
    }
    if (!ranges_.empty()) return ranges_[static_cast<std::size_t>(place)];
    return {offset + place * t, offset + place * t + t + 1};
}

std::size_t BatchSource::shard_of(std::int64_t token) const {
    return static_cast<std::size_t>(std::ranges::upper_bound(starts_, token) - starts_.begin()) - 1;
}

void BatchSource::read(std::int64_t begin, std::span<std::int32_t> out) const {
    for (std::size_t shard = shard_of(begin); !out.empty(); ++shard) {
        const std::int64_t end = starts_[shard + 1];
        const std::size_t n = std::min(out.size(), static_cast<std::size_t>(end - begin));
        shards_[shard].read(begin - starts_[shard], out.first(n));
        out = out.subspan(n);
        begin = end;
    }
}

// Targets that a loss mask leaves out.
void BatchSource::mask(Range window, std::span<std::int32_t> targets) const {
    std::size_t shard = shard_of(window.begin + 1);
    for (std::int64_t token = window.begin + 1; token < window.end; ++token) {
        while (token >= starts_[shard + 1]) ++shard;
        if (!shards_[shard].learns(token - starts_[shard])) {
            targets[static_cast<std::size_t>(token - window.begin - 1)] = -1;
        }
    }
}

// The end of the document that has this token, or `limit` if it is later.
std::int64_t BatchSource::document_end(std::int64_t token, std::int64_t limit) const {
    const std::size_t shard = shard_of(token);
    const TokenFile& file = shards_[shard];
    const std::int64_t first = starts_[shard];
    limit = std::min(limit, starts_[shard + 1]);
    if (const DocumentIndex* index = file.documents()) {
        return std::min(limit, first + index->end(index->document_of(token - first)));
    }
    while (token < limit) {
        if (file[token++ - first] == options_.end_of_text) return token;
    }
    return limit;
}

// Where documents begin, and no targets in the next one. Padding is a document of its own.
void BatchSource::separate(Range window, const BatchSpans& out) const {
    const auto t = static_cast<std::int64_t>(out.inputs.size());
    const std::int64_t inputs = window.end - window.begin - 1;
    for (std::int64_t begin = 0; begin < t;) {
        std::int64_t end = t;
        if (begin < inputs) {
            end = document_end(window.begin + begin, window.end) - window.begin;
            if (end <= inputs) out.targets[static_cast<std::size_t>(end - 1)] = -1;
            end = std::min(end, inputs);
        }
        for (std::int64_t i = begin; i < end; ++i) {
            out.starts[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(begin);
            out.positions[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i - begin);
        }
        begin = end;
    }
}

void BatchSource::get(std::int64_t sample, const BatchSpans& out) const {
    const auto t = static_cast<std::size_t>(options_.sequence_length);
    check(out.inputs.size() == t && out.targets.size() == t,
          "batches: expected inputs and targets of {} tokens, got {} and {}", t, out.inputs.size(),
          out.targets.size());
    const std::size_t separate_size = options_.documents ? t : 0;
    check(out.starts.size() == separate_size && out.positions.size() == separate_size,
          "batches: expected starts and positions of {} tokens, got {} and {}", separate_size,
          out.starts.size(), out.positions.size());
    const Range w = window(sample);
    const auto n = static_cast<std::size_t>(w.end - w.begin - 1);
    read(w.begin, out.inputs.first(n));
    read(w.begin + 1, out.targets.first(n));
    std::ranges::fill(out.inputs.subspan(n), 0);
    std::ranges::fill(out.targets.subspan(n), -1);
    if (masked_) mask(w, out.targets);
    if (options_.documents) separate(w, out);
}

}  // namespace octavo
