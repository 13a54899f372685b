// Texts for tests that hold for any text.
#pragma once

#include <random>
#include <string>

#include "text/utf8.h"

namespace octavo {

// Random characters in runs of one kind: all that UTF-8 can say, ASCII, white space, combining
// marks.
inline std::string random_text(std::size_t bytes, unsigned seed) {
    std::mt19937 engine(seed);
    const auto random = [&] { return static_cast<unsigned>(engine()); };
    const auto within = [&](char32_t first, char32_t last) {
        return first + static_cast<char32_t>(random() % (last - first + 1));
    };
    constexpr char32_t kSpaces[] = {' ', ' ', '\n', '\r', '\t', 0xA0, 0x85, 0x180E, 0x2003, 0x3000};
    std::string text;
    while (text.size() < bytes) {
        const unsigned kind = random() % 6;
        for (unsigned n = 1 + random() % 12; n > 0; --n) {
            char32_t c = kind == 0   ? within(0, 0x10FFFF)
                         : kind == 1 ? kSpaces[random() % std::size(kSpaces)]
                         : kind == 2 ? within(0x300, 0x36F)
                         : kind == 3 ? within(0xA0, 0x24F)
                         : kind == 4 ? within(0x1100, 0x11FF)
                                     : within(0, 0x7F);
            if (c >= 0xD800 && c < 0xE000) c = 0xAC00 + (c & 0x7FF);
            append_utf8(text, c);
        }
    }
    return text;
}

}  // namespace octavo
