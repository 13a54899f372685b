// The text of tokens as it may be shown while it comes: whole characters, and nothing of a stop
// string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace octavo {

class TextStream {
  public:
    explicit TextStream(std::vector<std::string> stops = {}) : stops_(std::move(stops)) {}

    // What can be shown now that the bytes of one more token have come. What is no UTF-8 becomes
    // U+FFFD, byte by byte, however the bytes are cut into tokens.
    std::string push(std::string_view bytes);
    // What has been held back, at the end.
    std::string finish();
    // A stop string came; all before it has been shown.
    bool stopped() const { return stopped_; }

  private:
    std::string show(bool all);

    std::vector<std::string> stops_;
    std::string bytes_;  // the beginning of a character, perhaps
    std::string text_;   // whole characters that may be the beginning of a stop string
    bool stopped_ = false;
};

// `text` with U+FFFD for every byte that belongs to no character.
std::string valid_utf8(std::string_view text);

// The number of characters in valid UTF-8.
std::size_t count_characters(std::string_view text);

}  // namespace octavo
