#include "text/train_bpe.h"

#include <algorithm>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/each.h"

namespace octavo {
namespace {

constexpr std::int64_t kLeastCount = 2;  // of a pair worth a token

using WordCounts = std::unordered_map<std::string, std::int64_t>;

std::vector<AddedToken> added_tokens(const BpeTraining& options) {
    std::vector<AddedToken> tokens;
    for (const std::string& content : options.special) {
        tokens.push_back({.content = content, .special = true});
    }
    return tokens;
}

// The words with their present tokens, and of every pair of neighbours its count and its words.
class Pairs {
  public:
    Pairs(const WordCounts& words, const std::array<std::int32_t, 256>& byte_ids) {
        for (const auto& [word, count] : words) {
            Word& w = words_.emplace_back();
            w.count = count;
            for (const char c : word) w.ids.push_back(byte_ids[static_cast<unsigned char>(c)]);
        }
        for (std::uint32_t w = 0; w < words_.size(); ++w) {
            const auto& ids = words_[w].ids;
            for (std::size_t i = 1; i < ids.size(); ++i) {
                change(ids[i - 1], ids[i], words_[w].count, w);
            }
        }
        push_changed();
    }

    struct Best {
        std::int32_t left = 0, right = 0;
        std::int64_t count = 0;  // 0: there is no pair
    };
    Best pop() {
        while (!heap_.empty()) {
            const Entry top = heap_.top();
            heap_.pop();
            const std::int64_t count = pairs_[top.pair].count;
            if (count == top.count) return {top.left, top.right, count};
            if (count > 0) heap_.push({count, top.left, top.right, top.pair});
        }
        return {};
    }

    void merge(std::int32_t left, std::int32_t right, std::int32_t result) {
        const std::uint32_t pair = index_of(left, right);
        const std::vector<std::uint32_t> words = std::exchange(pairs_[pair].words, {});
        for (const std::uint32_t w : words) merge_in(w, left, right, result);
        pairs_[pair].count = 0;
        push_changed();
    }

  private:
    struct Word {
        std::vector<std::int32_t> ids;
        std::int64_t count = 0;
    };
    struct Pair {
        std::int32_t left = 0, right = 0;
        std::int64_t count = 0;
        std::vector<std::uint32_t> words;  // some may have lost it
        bool changed = false;
    };
    struct Entry {
        std::int64_t count;
        std::int32_t left, right;
        std::uint32_t pair;
        // The top of a heap is its largest entry: most frequent, then lowest ids.
        bool operator<(const Entry& b) const {
            return std::tie(count, b.left, b.right) < std::tie(b.count, left, right);
        }
    };

    std::uint32_t index_of(std::int32_t left, std::int32_t right) {
        const std::uint64_t key = std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
                                  static_cast<std::uint32_t>(right);
        const auto [at, fresh] = index_.emplace(key, static_cast<std::uint32_t>(pairs_.size()));
        if (fresh) pairs_.push_back({.left = left, .right = right, .words = {}});
        return at->second;
    }
    // A word has the pair `by` times its count more often.
    void change(std::int32_t left, std::int32_t right, std::int64_t by, std::uint32_t word) {
        const std::uint32_t i = index_of(left, right);
        Pair& pair = pairs_[i];
        pair.count += by;
        if (by < 0) return;
        if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
        if (!std::exchange(pair.changed, true)) changed_.push_back(i);
    }
    // Counts that fell are corrected when they come to the top.
    void push_changed() {
        for (const std::uint32_t i : changed_) {
            Pair& pair = pairs_[i];
            pair.changed = false;
            if (pair.count > 0) heap_.push({pair.count, pair.left, pair.right, i});
        }
        changed_.clear();
    }
    void merge_in(std::uint32_t w, std::int32_t left, std::int32_t right, std::int32_t result) {
        std::vector<std::int32_t>& ids = words_[w].ids;
        const std::int64_t count = words_[w].count;
        const auto is_pair = [&](std::size_t i) {
            return i + 1 < ids.size() && ids[i] == left && ids[i + 1] == right;
        };
        std::size_t n = 0;  // ids[0, n) are done
        bool after_merge = false;
        for (std::size_t i = 0; i < ids.size();) {
            if (!is_pair(i)) {
                ids[n++] = ids[i++];
                after_merge = false;
                continue;
            }
            if (n > 0) {
                change(after_merge ? right : ids[n - 1], left, -count, w);
                change(ids[n - 1], result, count, w);
            }
            if (i + 2 < ids.size() && !is_pair(i + 2)) {
                change(right, ids[i + 2], -count, w);
                change(result, ids[i + 2], count, w);
            }
            ids[n++] = result;
            i += 2;
            after_merge = true;
        }
        ids.resize(n);
    }

    std::vector<Word> words_;
    std::vector<Pair> pairs_;
    std::unordered_map<std::uint64_t, std::uint32_t> index_;
    std::vector<std::uint32_t> changed_;
    std::priority_queue<Entry> heap_;
};

}  // namespace

struct BpeTrainer::Counter {
    explicit Counter(const Splitter& splitter) : scratch(splitter) {}
    Splitter::Scratch scratch;
    std::vector<std::uint32_t> ends;
    WordCounts words;
};

BpeTrainer::BpeTrainer(BpeTraining options)
    : options_(std::move(options)),
      splitter_({options_.pattern}),
      special_(added_tokens(options_)) {
    const std::size_t least = 256 + options_.special.size();
    if (options_.vocabulary < static_cast<std::int64_t>(least)) {
        fail_usage("a byte-level BPE with {} special tokens has at least {} tokens, got {}",
                   options_.special.size(), least, options_.vocabulary);
    }
}
BpeTrainer::~BpeTrainer() = default;

std::size_t BpeTrainer::merge_count() const {
    return static_cast<std::size_t>(options_.vocabulary) - 256 - options_.special.size();
}

void BpeTrainer::add(std::span<const std::string> documents) {
    while (counters_.size() < static_cast<std::size_t>(thread_count())) {
        counters_.push_back(std::make_unique<Counter>(splitter_));
    }
    for_each_item(documents.size(), [&](std::size_t thread, std::size_t i) {
        Counter& counter = *counters_[thread];
        const std::string_view document = documents[i];
        for (std::size_t at = 0; at < document.size();) {
            const auto special = special_.find(document, at);
            const std::string_view text = document.substr(at, special.begin - at);
            splitter_.split(text, counter.scratch, counter.ends);
            std::size_t begin = 0;
            for (const std::uint32_t end : counter.ends) {
                for (std::size_t length; begin < end; begin += length) {
                    length = std::min<std::size_t>(end - begin, kLongestWord);
                    ++counter.words[std::string(text.substr(begin, length))];
                }
            }
            at = special.end;
        }
    });
}

BpeSpec BpeTrainer::train(const std::function<void(std::int64_t, std::int64_t)>& progress) {
    WordCounts words;
    for (const auto& counter : counters_) {
        for (const auto& [word, count] : counter->words) words[word] += count;
        counter->words.clear();
    }
    check(!words.empty(), "there is no text to train a tokenizer on");

    BpeSpec spec{.patterns = {options_.pattern}};
    std::unordered_map<std::string, std::int32_t> ids;
    const auto id_of = [&](const std::string& token) {
        const auto [at, fresh] = ids.emplace(token, static_cast<std::int32_t>(spec.tokens.size()));
        if (fresh) spec.tokens.push_back(token);
        return at->second;
    };
    // Bytes in the order of their spelling, as GPT-2 has them.
    std::vector<unsigned char> bytes(256);
    for (unsigned i = 0; i < 256; ++i) bytes[i] = static_cast<unsigned char>(i);
    std::ranges::sort(bytes, {}, character_of);
    for (const unsigned char byte : bytes) {
        spec.byte_ids[byte] = id_of(std::string(1, static_cast<char>(byte)));
    }
    Pairs pairs(words, spec.byte_ids);
    words.clear();
    const std::size_t merged_tokens = 256 + merge_count();
    while (spec.tokens.size() < merged_tokens) {
        const auto best = pairs.pop();
        if (best.count < kLeastCount) break;
        // Another merge may have made the same token, of other parts.
        const std::int32_t result = id_of(spec.tokens[static_cast<std::size_t>(best.left)] +
                                          spec.tokens[static_cast<std::size_t>(best.right)]);
        spec.merges.push_back({best.left, best.right, result});
        pairs.merge(best.left, best.right, result);
        if (progress && spec.merges.size() % 256 == 0) {
            progress(std::ssize(spec.merges), static_cast<std::int64_t>(merge_count()));
        }
    }
    for (AddedToken token : added_tokens(options_)) {
        check(!ids.contains(token.content), "the special token '{}' is a token of the text as well",
              token.content);
        token.id = id_of(token.content);
        spec.added.push_back(token);
    }
    return spec;
}

}  // namespace octavo
