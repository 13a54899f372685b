// Cuts text into the pieces that byte-level BPE merges within, by regular expressions (PCRE2).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace octavo {

// A list of patterns: the first cuts the text, the next one cuts each of its pieces, and so on.
// Matches are pieces, and so is what lies between them: nothing is lost. Bytes that are not UTF-8
// match nothing.
class Splitter {
  public:
    // What one thread needs to match.
    class Scratch {
      public:
        explicit Scratch(const Splitter&);
        ~Scratch();
        Scratch(Scratch&&) noexcept;
        Scratch& operator=(Scratch&&) noexcept;

      private:
        friend class Splitter;
        struct Buffers;
        std::unique_ptr<Buffers> buffers_;
    };

    // `patterns` in the syntax of tokenizer.json (split_pattern.h). Throws Error naming a pattern
    // that is not supported, or that matches an empty text.
    explicit Splitter(const std::vector<std::string>& patterns);
    ~Splitter();
    Splitter(Splitter&&) noexcept;
    Splitter& operator=(Splitter&&) noexcept;

    // Sets `ends` to the offsets at which the pieces of `text` end; the last is text.size(). Throws
    // Error for a pattern that takes too many steps or too much memory on this text.
    void split(std::string_view text, Scratch&, std::vector<std::uint32_t>& ends) const;

  private:
    class Pattern;
    std::vector<Pattern> patterns_;
};

}  // namespace octavo
