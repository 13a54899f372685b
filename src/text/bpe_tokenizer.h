// Byte-level BPE as Qwen, Llama 3 and GPT-2 have it: added tokens are cut out of the text, the rest
// is normalised, split by patterns, and merged within each piece.
//
// decode(encode(text)) is the text's bytes, UTF-8 or not; with NFC, its normal form's.
#pragma once

#include <array>
#include <unordered_map>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/splitter.h"
#include "text/tokenizer.h"

namespace octavo {

// All that a tokenizer.json says.
struct BpeSpec {
    std::vector<std::string> tokens = {};  // bytes by id; empty: no token has the id
    std::array<std::int32_t, 256> byte_ids = {};
    std::vector<Merge> merges = {};
    std::vector<AddedToken> added = {};      // their contents are in `tokens`, too
    std::vector<std::string> patterns = {};  // of the splits, in the syntax of tokenizer.json
    std::vector<std::int32_t> begin = {};    // tokens that the template puts before a text
    bool nfc = false;
    bool ignore_merges = false;  // a piece that is a token stays whole
};

class BpeTokenizer final : public Tokenizer {
  public:
    // All ids in `spec` are in its vocabulary. `end_of_text` names the token that ends documents;
    // if empty, it is the first of kEndsOfText among the added tokens, if any. Throws Error for a
    // pattern that is not supported, and if there is no such end of text.
    explicit BpeTokenizer(BpeSpec spec, std::string fingerprint, std::string_view end_of_text = {});
    BpeTokenizer(const BpeTokenizer&) = delete;
    BpeTokenizer& operator=(const BpeTokenizer&) = delete;

    static constexpr std::array<std::string_view, 5> kEndsOfText = {
        "<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>"};

    std::string_view kind() const override { return "bpe"; }
    std::string fingerprint() const override { return fingerprint_; }
    std::int32_t vocabulary() const override {
        return static_cast<std::int32_t>(spec_.tokens.size());
    }
    std::optional<std::int32_t> end_of_text() const override { return end_of_text_; }
    std::span<const std::int32_t> begin() const override { return spec_.begin; }
    std::optional<std::int32_t> special(std::string_view text) const override;
    bool is_token(std::int32_t id) const override;
    std::string_view bytes(std::int32_t id) const override;
    std::unique_ptr<Encoder> encoder() const override;

    const BpeSpec& spec() const { return spec_; }

  private:
    friend class BpeEncoder;

    BpeSpec spec_;
    std::string fingerprint_;
    std::optional<std::int32_t> end_of_text_;
    Bpe bpe_;
    Splitter splitter_;
    AddedTokenFinder in_raw_, in_normalized_;
    std::unordered_map<std::string_view, std::int32_t> whole_words_;  // only with ignore_merges
};

}  // namespace octavo
