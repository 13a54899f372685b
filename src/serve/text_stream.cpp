#include "serve/text_stream.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace octavo {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

// Moves characters from `bytes` to `text` up to what may become one.
void take_characters(std::string& bytes, std::string& text, bool all) {
    std::string_view rest = bytes;
    while (!rest.empty()) {
        const Character c = first_character(rest);
        if (c.bytes == 0 && !all && unfinished_bytes(rest) == rest.size()) break;
        text += c.bytes == 0 ? kReplacement : rest.substr(0, c.bytes);
        rest.remove_prefix(std::max<std::size_t>(c.bytes, 1));
    }
    bytes.erase(0, bytes.size() - rest.size());
}

// Bytes at the end of `text` that begin `stop`.
std::size_t overlap(std::string_view text, std::string_view stop) {
    for (std::size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
        if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
    }
    return 0;
}

}  // namespace

std::string TextStream::push(std::string_view bytes) {
    if (stopped_) return {};
    bytes_ += bytes;
    return show(false);
}

std::string TextStream::finish() { return stopped_ ? std::string() : show(true); }

std::string TextStream::show(bool all) {
    take_characters(bytes_, text_, all);
    std::size_t end = std::string::npos, held = 0;
    for (const std::string& stop : stops_) {
        end = std::min(end, text_.find(stop));
        if (!all) held = std::max(held, overlap(text_, stop));
    }
    stopped_ = end != std::string::npos;
    std::string shown = text_.substr(0, stopped_ ? end : text_.size() - held);
    text_.erase(0, shown.size());
    return shown;
}

std::string valid_utf8(std::string_view text) {
    std::string bytes(text), valid;
    take_characters(bytes, valid, true);
    return valid;
}

std::size_t count_characters(std::string_view text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace octavo
