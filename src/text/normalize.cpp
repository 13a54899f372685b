#include "text/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <memory>
#include <vector>

#include "base/error.h"
#include "text/utf8.h"

namespace octavo {
namespace {

constexpr char32_t kCodes = 0x110000;
constexpr char32_t kFirstMark =
    0x300;  // all before it are themselves, and compose with nothing before
constexpr auto kCompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
constexpr auto kDecompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
constexpr std::size_t kLongestDecomposition = 8;  // Unicode's longest canonical one has 4

// The characters at which a text can be cut: NFC leaves them as they are, and they neither compose
// with what stands before them nor change places with it.
using Boundaries = std::bitset<kCodes>;

std::unique_ptr<const Boundaries> find_boundaries() {
    auto is_boundary = std::make_unique<Boundaries>();
    is_boundary->set();
    std::vector<char32_t> compose_back;
    std::array<utf8proc_int32_t, kLongestDecomposition> parts{};
    for (char32_t c = kFirstMark; c < kCodes; ++c) {
        const auto code = static_cast<utf8proc_int32_t>(c);
        if (utf8proc_get_property(code)->combining_class != 0) is_boundary->reset(c);
        int last_class = 0;
        const auto n =
            utf8proc_decompose_char(code, parts.data(), std::ssize(parts), kDecompose, &last_class);
        if (n < 1 || (n == 1 && parts[0] == code)) continue;
        for (std::ptrdiff_t i = 1; i < n; ++i) {
            compose_back.push_back(static_cast<char32_t>(parts[static_cast<std::size_t>(i)]));
        }
        const auto composed = utf8proc_normalize_utf32(parts.data(), n, kCompose);
        if (composed != 1 || parts[0] != code) is_boundary->reset(c);
    }
    for (const char32_t c : compose_back) is_boundary->reset(c);
    return is_boundary;
}

bool is_boundary(char32_t c) {
    if (c < kFirstMark) return true;
    static const std::unique_ptr<const Boundaries> boundaries = find_boundaries();
    return boundaries->test(c);
}

// Marks after one character are brought into the order of their classes. utf8proc_decompose would,
// too, but takes quadratic time over long runs of them.
void order_marks(std::vector<utf8proc_int32_t>& parts) {
    const auto mark_class = [](utf8proc_int32_t c) {
        return utf8proc_get_property(c)->combining_class;
    };
    for (auto at = parts.begin(); at != parts.end();) {
        const auto end = std::find_if(at, parts.end(), [&](auto c) { return mark_class(c) == 0; });
        std::stable_sort(at, end, [&](auto a, auto b) { return mark_class(a) < mark_class(b); });
        at = end == parts.end() ? end : end + 1;
    }
}

// `stretch` is whole characters.
void append_nfc(std::string_view stretch, std::string& out) {
    std::vector<utf8proc_int32_t> parts;
    std::array<utf8proc_int32_t, kLongestDecomposition> of_one{};
    int last_class = 0;
    while (!stretch.empty()) {
        const Character c = first_character(stretch);
        const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code), of_one.data(),
                                               std::ssize(of_one), kDecompose, &last_class);
        check(n >= 0, "NFC: U+{:04X}: {}", static_cast<std::uint32_t>(c.code), utf8proc_errmsg(n));
        parts.insert(parts.end(), of_one.begin(), of_one.begin() + n);
        stretch.remove_prefix(c.bytes);
    }
    order_marks(parts);
    const auto n = utf8proc_normalize_utf32(parts.data(), std::ssize(parts), kCompose);
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        append_utf8(out, static_cast<char32_t>(parts[static_cast<std::size_t>(i)]));
    }
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& buffer) {
    buffer.clear();
    std::size_t copied = 0;         // text[0, copied) is in the buffer
    std::size_t last_boundary = 0;  // where a stretch would have to begin
    std::size_t at = 0;
    while (at < text.size()) {
        if (static_cast<unsigned char>(text[at]) < 0x80) {
            last_boundary = at++;
            continue;
        }
        const Character c = first_character(text.substr(at));
        if (c.bytes == 0) {
            last_boundary = ++at;
            continue;
        }
        if (is_boundary(c.code)) {
            last_boundary = at;
            at += c.bytes;
            continue;
        }
        std::size_t end = at + c.bytes;
        while (end < text.size()) {
            const Character next = first_character(text.substr(end));
            if (next.bytes == 0 || is_boundary(next.code)) break;
            end += next.bytes;
        }
        buffer += text.substr(copied, last_boundary - copied);
        append_nfc(text.substr(last_boundary, end - last_boundary), buffer);
        copied = last_boundary = at = end;
    }
    if (copied == 0) return text;
    buffer += text.substr(copied);
    return buffer;
}

}  // namespace octavo
