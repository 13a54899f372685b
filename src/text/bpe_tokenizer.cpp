#include "text/bpe_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/normalize.h"
#include "text/word_cache.h"

namespace octavo {

class BpeEncoder final : public Encoder {
  public:
    explicit BpeEncoder(const BpeTokenizer& tokenizer)
        : t_(tokenizer), split_scratch_(tokenizer.splitter_) {}

    void encode(std::string_view text, std::vector<std::int32_t>& ids) override {
        around(t_.in_raw_, text, ids, [&](std::string_view raw) {
            const std::string_view normal = t_.spec_.nfc ? to_nfc(raw, normal_) : raw;
            around(t_.in_normalized_, normal, ids,
                   [&](std::string_view plain) { encode_plain(plain, ids); });
        });
    }

  private:
    // Appends the added tokens of `text` and lets `encode_between` see to what lies between them.
    template <class Between>
    static void around(const AddedTokenFinder& finder, std::string_view text,
                       std::vector<std::int32_t>& ids, Between&& encode_between) {
        for (std::size_t at = 0; at < text.size();) {
            const auto match = finder.find(text, at);
            if (match.begin > at) encode_between(text.substr(at, match.begin - at));
            if (match.id >= 0) ids.push_back(match.id);
            at = match.end;
        }
    }

    void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) {
        t_.splitter_.split(text, split_scratch_, ends_);
        std::size_t begin = 0;
        for (const std::uint32_t end : ends_) {
            encode_word(text.substr(begin, end - begin), ids);
            begin = end;
        }
    }

    void encode_word(std::string_view word, std::vector<std::int32_t>& ids) {
        if (word.size() > WordCache::kLongestWord) return merge(word, ids);
        if (const auto known = cache_.find(word); !known.empty()) {
            ids.insert(ids.end(), known.begin(), known.end());
            return;
        }
        const std::size_t before = ids.size();
        merge(word, ids);
        cache_.add(word, std::span(ids).subspan(before));
    }

    void merge(std::string_view word, std::vector<std::int32_t>& ids) {
        if (t_.spec_.ignore_merges) {
            if (const auto whole = t_.whole_words_.find(word); whole != t_.whole_words_.end()) {
                ids.push_back(whole->second);
                return;
            }
        }
        t_.bpe_.encode(word, merge_scratch_, ids);
    }

    const BpeTokenizer& t_;
    std::string normal_;
    Splitter::Scratch split_scratch_;
    std::vector<std::uint32_t> ends_;
    WordCache cache_;
    Bpe::Scratch merge_scratch_;
};

namespace {

std::vector<AddedToken> tokens_with(const std::vector<AddedToken>& tokens, bool normalized) {
    std::vector<AddedToken> some;
    for (const AddedToken& token : tokens) {
        if (token.normalized == normalized) some.push_back(token);
    }
    return some;
}

std::vector<AddedToken> in_nfc(std::vector<AddedToken> tokens) {
    std::string buffer;
    for (AddedToken& token : tokens) {
        token.content = std::string(to_nfc(token.content, buffer));
    }
    return tokens;
}

}  // namespace

BpeTokenizer::BpeTokenizer(BpeSpec spec, std::string fingerprint, std::string_view end_of_text)
    : spec_(std::move(spec)),
      fingerprint_(std::move(fingerprint)),
      bpe_(spec_.byte_ids, spec_.merges),
      splitter_(spec_.patterns),
      in_raw_(tokens_with(spec_.added, false)) {
    auto normalized = tokens_with(spec_.added, true);
    in_normalized_ =
        AddedTokenFinder(spec_.nfc ? in_nfc(std::move(normalized)) : std::move(normalized));
    if (spec_.ignore_merges) {
        for (std::size_t id = 0; id < spec_.tokens.size(); ++id) {
            if (!spec_.tokens[id].empty()) {
                whole_words_.emplace(spec_.tokens[id], static_cast<std::int32_t>(id));
            }
        }
        for (const AddedToken& token : spec_.added) whole_words_.erase(token.content);
    }
    if (!end_of_text.empty()) {
        end_of_text_ = special(end_of_text);
        check(end_of_text_.has_value(), "expected '{}' among the added tokens, it is not there",
              end_of_text);
    }
    for (const std::string_view name : kEndsOfText) {
        if (!end_of_text_) end_of_text_ = special(name);
    }
}

std::optional<std::int32_t> BpeTokenizer::special(std::string_view text) const {
    const auto at = std::ranges::find(spec_.added, text, &AddedToken::content);
    if (at == spec_.added.end()) return std::nullopt;
    return at->id;
}

bool BpeTokenizer::is_token(std::int32_t id) const {
    return id >= 0 && id < vocabulary() && !spec_.tokens[static_cast<std::size_t>(id)].empty();
}

std::string_view BpeTokenizer::bytes(std::int32_t id) const {
    check(is_token(id),
          "expected the id of a token, below {}, got {}\n"
          "  These tokens belong to another tokenizer.",
          vocabulary(), id);
    return spec_.tokens[static_cast<std::size_t>(id)];
}

std::unique_ptr<Encoder> BpeTokenizer::encoder() const {
    return std::make_unique<BpeEncoder>(*this);
}

}  // namespace octavo
