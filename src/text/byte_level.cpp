#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace octavo {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

constexpr auto kCharacters = [] {
    std::array<char32_t, 256> characters{};
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
        characters[byte] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
    }
    return characters;
}();

constexpr char32_t kLast = 0x143;
static_assert(kCharacters[0xAD] == kLast);

constexpr auto kBytes = [] {
    std::array<short, kLast + 1> bytes{};
    bytes.fill(-1);
    for (unsigned byte = 0; byte < 256; ++byte) {
        bytes[kCharacters[byte]] = static_cast<short>(byte);
    }
    return bytes;
}();

}  // namespace

std::optional<unsigned char> byte_of(char32_t c) {
    if (c > kLast || kBytes[c] < 0) return std::nullopt;
    return static_cast<unsigned char>(kBytes[c]);
}

char32_t character_of(unsigned char byte) { return kCharacters[byte]; }

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
    std::string bytes;
    while (!spelling.empty()) {
        const Character c = first_character(spelling);
        const auto byte = c.bytes > 0 ? byte_of(c.code) : std::nullopt;
        if (!byte) return std::nullopt;
        bytes += static_cast<char>(*byte);
        spelling.remove_prefix(c.bytes);
    }
    return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
    std::string spelling;
    for (const char byte : bytes) {
        append_utf8(spelling, character_of(static_cast<unsigned char>(byte)));
    }
    return spelling;
}

}  // namespace octavo
