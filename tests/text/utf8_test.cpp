#include "text/utf8.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

TEST(Utf8, EveryCharacterRoundTrips) {
    for (char32_t c = 0; c < 0x110000; ++c) {
        if (c == 0xD800) c = 0xE000;
        std::string text;
        append_utf8(text, c);
        const Character back = first_character(text + "x");
        ASSERT_EQ(back.code, c);
        ASSERT_EQ(back.bytes, text.size());
        for (std::size_t n = 1; n < text.size(); ++n) {
            ASSERT_EQ(first_character(text.substr(0, n)).bytes, 0u);
            ASSERT_EQ(unfinished_bytes("a" + text.substr(0, n)), n);
        }
        ASSERT_EQ(unfinished_bytes(text), 0u);
    }
}

TEST(Utf8, WhatIsNoCharacter) {
    for (const char* bad :
         {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x28\xA1"}) {
        EXPECT_EQ(first_character(bad).bytes, 0u);
    }
    EXPECT_EQ(unfinished_bytes("\xFF"), 0u);
    EXPECT_EQ(unfinished_bytes("\x80\x80\x80\x80"), 0u);
}

TEST(Utf8Stream, HoldsHalfCharactersBack) {
    Utf8Stream stream;
    EXPECT_EQ(stream.push("a\xF0\x9F"), "a");
    EXPECT_EQ(stream.push("\x8C"), "");
    EXPECT_EQ(stream.push("\x9E!"), "\xF0\x9F\x8C\x9E!");
    EXPECT_EQ(stream.push("\xC3"), "");
    EXPECT_EQ(stream.push("x"), "\xC3x");
    EXPECT_EQ(stream.push("\xE2\x82"), "");
    EXPECT_EQ(stream.finish(), "\xE2\x82");
    EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace octavo
