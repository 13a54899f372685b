// The spelling of bytes in a tokenizer.json of byte-level BPE (GPT-2's): a printable character for
// every byte. Those of ASCII and Latin-1 that are visible stand for themselves, the other 68 bytes
// are U+0100 to U+0143 in order.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace octavo {

// The byte that U+`c` stands for.
std::optional<unsigned char> byte_of(char32_t c);
char32_t character_of(unsigned char byte);

// The bytes that `spelling` stands for; nothing if it is no such spelling.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);
std::string spelling_of_bytes(std::string_view bytes);

}  // namespace octavo
