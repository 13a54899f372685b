// Finds the merges of a byte-level BPE: of all neighbours in a text, the most frequent pair becomes
// a token, again and again (Sennrich et al., arXiv 1508.07909; GPT-2's form of it, on bytes).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/bpe_tokenizer.h"

namespace octavo {

struct BpeTraining {
    std::int32_t vocabulary = 0;  // tokens in all: 256 bytes, merges, special tokens
    std::string pattern = {};     // that cuts the text, as in tokenizer.json
    std::vector<std::string> special = {"<|endoftext|>"};  // get the last ids
};

// The result depends on the text alone, not on its order or the number of threads: equally frequent
// pairs come in the order of their ids.
class BpeTrainer {
  public:
    // Throws a usage Error if the vocabulary has no room for the bytes and special tokens.
    explicit BpeTrainer(BpeTraining);
    ~BpeTrainer();

    // Every merge goes through whole words that have its pair, so one without end would take the
    // square of its length.
    static constexpr std::size_t kLongestWord = 4096;  // bytes

    // Counts the words of some documents, on all threads. Longer words than kLongestWord are cut
    // into pieces of that length. Special tokens are passed over.
    void add(std::span<const std::string> documents);

    // `progress`, if any, is called now and then with the number of merges so far and in all. The
    // vocabulary is smaller than asked for if no pair is left that occurs twice.
    BpeSpec train(const std::function<void(std::int64_t, std::int64_t)>& progress = {});

  private:
    struct Counter;
    std::size_t merge_count() const;

    BpeTraining options_;
    Splitter splitter_;
    AddedTokenFinder special_;
    std::vector<std::unique_ptr<Counter>> counters_;  // one a thread
};

}  // namespace octavo
