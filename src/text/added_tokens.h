// Tokens that are looked for in the text before anything else is done with it: special tokens such
// as
// <|endoftext|>, and words that somebody has added to a vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octavo {

struct AddedToken {
    std::int32_t id = 0;
    std::string content = {};
    bool special = false;
    bool single_word = false;  // only where no letter, digit or _ is beside it
    bool lstrip = false;       // takes the white space before it
    bool rstrip = false;       // and after it
    bool normalized = false;   // looked for in the normalised text
    bool operator==(const AddedToken&) const = default;
};

// Finds the leftmost, and there the longest.
class AddedTokenFinder {
  public:
    struct Match {
        std::size_t begin = 0, end = 0;
        std::int32_t id = -1;  // -1: there is none, and `begin` and `end` are the text's end
    };

    // Contents are not empty; of equal ones the first counts.
    explicit AddedTokenFinder(std::vector<AddedToken> tokens = {});

    bool empty() const { return tokens_.empty(); }
    // The first match in text[from, ...). What stands before `from` was matched already.
    Match find(std::string_view text, std::size_t from) const;

  private:
    struct Node {
        std::int32_t token = -1;  // index in tokens_
        std::vector<std::pair<unsigned char, std::uint32_t>> next;
    };
    const AddedToken* longest_at(std::string_view text) const;

    std::vector<AddedToken> tokens_;
    std::vector<Node> nodes_;
    bool begins_[256] = {};
};

}  // namespace octavo
