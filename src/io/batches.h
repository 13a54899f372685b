// The order in which training sees its tokens, as a pure function: sample number -> window.
//
// The shards count as one long stream. An epoch cuts it into disjoint windows of `sequence_length`
// tokens (each with one more token, the last target, shared with the next window) from an offset
// that changes every epoch, and visits them in an order that changes every epoch. Nothing is
// remembered: the position of a run is one integer, and any number of ranks can share a stream.
//
// Windows can hold whole documents instead (Windows::packed and padded). Those do not move from
// epoch to epoch, only their order does.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/token_file.h"

namespace octavo {

enum class Order {
    shuffled,    // endless epochs, each with its own offset and permutation
    sequential,  // one pass from the first token on: evaluation
};

enum class Windows {
    stream,  // full windows, wherever documents begin and end
    packed,  // documents one behind the other as long as the next still fits; then padding
    padded,  // one document, then padding
};

Windows windows_named(std::string_view name);  // "stream", "packed" or "padded"

struct BatchOptions {
    std::int64_t sequence_length = 0;  // T
    std::int64_t vocabulary = 0;       // every id in the shards must be below it
    std::uint64_t seed = 0;
    Order order = Order::shuffled;
    Windows windows = Windows::stream;
    bool documents = false;         // documents do not see each other: starts and positions
    std::int64_t end_of_text = -1;  // ends documents in files without an index; -1: none does
};

// The token after inputs[t] is targets[t], or -1 if it is not to be learned: a loss mask says so,
// it is padding, or it begins another document and `documents` are apart. With `documents`, the
// document of inputs[t] begins in the window at starts[t], and positions[t] = t - starts[t]; else
// both are empty. All of B x T.
struct BatchSpans {
    std::span<std::int32_t> inputs, targets, starts = {}, positions = {};

    BatchSpans rows(std::size_t first, std::size_t count, std::size_t t) const;
};

// A batch with its memory.
struct Batch {
    Batch(std::int64_t rows, std::int64_t sequence_length, bool documents);
    BatchSpans spans() { return {ids, targets, starts, positions}; }
    std::int64_t learned() const;  // targets that count

    std::vector<std::int32_t> ids, targets, starts, positions;
};

class BatchSource {
  public:
    // Scans the shards for ids outside the vocabulary. Throws Error for those, and if the data is
    // shorter than one window, or has documents that nothing tells apart where they matter.
    BatchSource(std::vector<TokenFile> shards, const BatchOptions& options);

    std::int64_t tokens() const { return starts_.back(); }
    std::int64_t sequence_length() const { return options_.sequence_length; }
    const BatchOptions& options() const { return options_; }
    const TokenFile& first_shard() const { return shards_.front(); }
    std::string name() const;  // "a.bin", "a.bin and 2 more"
    // Windows in one epoch. At most one window fewer than would fit without the offset.
    std::int64_t windows() const { return windows_; }
    // Documents longer than a window of whole documents, of which it holds the beginning.
    std::int64_t cut_documents() const { return cut_documents_; }

    // One window of (T). `sample` >= 0, and below windows() if sequential. Safe to call from
    // several threads.
    void get(std::int64_t sample, const BatchSpans& out) const;
    void get(std::int64_t sample, std::span<std::int32_t> inputs,
             std::span<std::int32_t> targets) const {
        get(sample, {inputs, targets});
    }

  private:
    struct Range {  // of tokens of the stream
        std::int64_t begin, end;
    };
    Range window(std::int64_t sample) const;
    std::size_t shard_of(std::int64_t token) const;
    void read(std::int64_t begin, std::span<std::int32_t> out) const;
    void cut_stream();
    void cut_documents_into_windows();
    // found(begin, end) of every document.
    template <class Found>
    void each_document(const TokenFile& shard, Found&& found) const;
    std::int64_t document_end(std::int64_t token, std::int64_t limit) const;
    void mask(Range window, std::span<std::int32_t> targets) const;
    void separate(Range window, const BatchSpans& out) const;

    std::vector<TokenFile> shards_;
    std::vector<std::int64_t> starts_;  // first token of each shard, and the total
    BatchOptions options_;
    std::vector<Range> ranges_;  // windows of whole documents
    std::int64_t offsets_ = 1;   // epochs start at an offset in [0, offsets_)
    std::int64_t windows_ = 0;
    std::int64_t cut_documents_ = 0;
    bool masked_ = false;
};

}  // namespace octavo
