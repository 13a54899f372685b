#include "text/utf8.h"

#include <utility>

namespace octavo {
namespace {

std::uint32_t at(std::string_view text, std::size_t i) {
    return static_cast<unsigned char>(text[i]);
}

// Bytes of the character that begins with `lead`; 0: none does.
std::size_t length_by(std::uint32_t lead) {
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) return 3;
    return lead < 0xF5 ? 4 : 0;
}

bool continues(std::uint32_t byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

Character first_character(std::string_view text) {
    const std::uint32_t lead = at(text, 0);
    const std::size_t n = length_by(lead);
    if (n == 1) return {static_cast<char32_t>(lead), 1};
    if (n == 0 || n > text.size()) return {};
    std::uint32_t code = lead & (0x7Fu >> n);
    for (std::size_t i = 1; i < n; ++i) {
        if (!continues(at(text, i))) return {};
        code = code << 6 | (at(text, i) & 0x3F);
    }
    const bool overlong = (n == 3 && code < 0x800) || (n == 4 && code < 0x10000);
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    if (overlong || surrogate || code > 0x10FFFF) return {};
    return {static_cast<char32_t>(code), n};
}

Character last_character(std::string_view text) {
    for (std::size_t n = 1; n <= 4 && n <= text.size(); ++n) {
        const Character c = first_character(text.substr(text.size() - n));
        if (c.bytes == n) return c;
    }
    return {};
}

void append_utf8(std::string& text, char32_t code) {
    const auto put = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
    const auto tail = [&](int shift) { put(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xC0 | code >> 6);
        tail(0);
    } else if (code < 0x10000) {
        put(0xE0 | code >> 12);
        tail(6);
        tail(0);
    } else {
        put(0xF0 | code >> 18);
        tail(12);
        tail(6);
        tail(0);
    }
}

std::size_t unfinished_bytes(std::string_view text) {
    for (std::size_t n = 1; n <= 3 && n <= text.size(); ++n) {
        const std::uint32_t byte = at(text, text.size() - n);
        if (continues(byte)) continue;
        return length_by(byte) > n ? n : 0;
    }
    return 0;
}

std::string Utf8Stream::push(std::string_view bytes) {
    held_ += bytes;
    const std::size_t keep = unfinished_bytes(held_);
    std::string whole = held_.substr(0, held_.size() - keep);
    held_.erase(0, whole.size());
    return whole;
}

std::string Utf8Stream::finish() { return std::exchange(held_, {}); }

}  // namespace octavo
