// UTF-8, byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace octavo {

struct Character {
    char32_t code = 0;
    std::size_t bytes = 0;  // 0: what is there is not UTF-8, or not all of a character
};

// The character at the start of `text`, which is not empty. No overlong forms, no surrogates.
Character first_character(std::string_view text);
// The character that ends where `text` does; 0 bytes if there is none.
Character last_character(std::string_view text);

void append_utf8(std::string& text, char32_t code);

// The bytes at the end of `text` that are the beginning of a character: 0 to 3.
std::size_t unfinished_bytes(std::string_view text);

// Joins the bytes of tokens so that nobody sees half a character.
class Utf8Stream {
  public:
    // What can be shown now that `bytes` have come.
    std::string push(std::string_view bytes);
    // What has been held back, at the end.
    std::string finish();

  private:
    std::string held_;
};

}  // namespace octavo
