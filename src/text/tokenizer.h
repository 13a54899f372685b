// Text to token ids and back, as token files, training and generation see it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octavo {

// What one thread needs to encode: scratch memory, and what it remembers of earlier words.
class Encoder {
  public:
    virtual ~Encoder() = default;
    // Appends the ids of `text`. Special tokens written in the text are recognised, none are added.
    virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) = 0;
};

// Immutable; threads share it. Encoders must not outlive it.
class Tokenizer {
  public:
    virtual ~Tokenizer() = default;

    virtual std::string_view kind() const = 0;  // "byte", "bpe"
    // Tells tokenizers apart: equal for equal files.
    virtual std::string fingerprint() const = 0;
    // Ids are below it. A model may have more rows than that: such ids never occur in data, and a
    // sampler has to leave them out.
    virtual std::int32_t vocabulary() const = 0;
    // Stands after every document of a token file.
    virtual std::optional<std::int32_t> end_of_text() const = 0;
    // Stand before every document and prompt; most tokenizers have none.
    virtual std::span<const std::int32_t> begin() const = 0;
    // The id of a special token by its text.
    virtual std::optional<std::int32_t> special(std::string_view text) const = 0;
    // Ids below the vocabulary may be none.
    virtual bool is_token(std::int32_t id) const = 0;
    // The bytes of one token, which may be part of a character. Throws Error for ids that are none.
    virtual std::string_view bytes(std::int32_t id) const = 0;
    virtual std::unique_ptr<Encoder> encoder() const = 0;

    // One for each of thread_count() threads.
    std::vector<std::unique_ptr<Encoder>> encoders() const;
    std::vector<std::int32_t> encode(std::string_view text) const;
    // Throws Error naming the position of an id that is none.
    std::string decode(std::span<const std::int32_t> ids) const;
};

// The ids that stand before a prompt: the tokenizer's own, or else, for models that have learned
// their texts so, the end of another text.
std::vector<std::int32_t> prompt_begin(const Tokenizer&, bool after_end_of_text);
// These and the ids of `text`. An empty text has at least the end of another before it, if the
// tokenizer has one.
std::vector<std::int32_t> prompt_ids(const Tokenizer&, std::string_view text,
                                     bool after_end_of_text);

}  // namespace octavo
