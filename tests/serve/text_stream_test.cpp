#include "serve/text_stream.h"

#include <gtest/gtest.h>

#include <random>

namespace octavo {
namespace {

// What is shown of `text`, cut into pieces of `size` bytes.
std::string shown(TextStream stream, std::string_view text, std::size_t size) {
    std::string out;
    for (std::size_t at = 0; at < text.size() && !stream.stopped(); at += size) {
        const std::string part = stream.push(text.substr(at, size));
        EXPECT_EQ(valid_utf8(part), part) << "half a character";
        out += part;
    }
    return out + stream.finish();
}

TEST(TextStream, ShowsWholeCharacters) {
    TextStream stream;
    EXPECT_EQ(stream.push("a\xe2"), "a");
    EXPECT_EQ(stream.push("\x82"), "");
    EXPECT_EQ(stream.push("\xac"
                          "b"),
              "\u20ac"
              "b");
    EXPECT_EQ(stream.push("\xf0\x9f"), "");
    EXPECT_EQ(stream.finish(), "\uFFFD\uFFFD");
}

TEST(TextStream, BytesThatAreNoTextDoNotDependOnTheCuts) {
    std::mt19937 random(7);
    for (int round = 0; round < 2000; ++round) {
        std::string bytes;
        for (int i = 0; i < 12; ++i) {
            static constexpr unsigned char kSome[] = {'a',  0x80, 0xbf, 0xc2, 0xe2, 0x82, 0xac,
                                                      0xf0, 0x9f, 0x98, 0xff, 0xed, 0xa0};
            bytes += static_cast<char>(kSome[random() % sizeof kSome]);
        }
        const std::string whole = valid_utf8(bytes);
        EXPECT_EQ(valid_utf8(whole), whole);
        for (const std::size_t size : {1u, 2u, 3u, 5u, 12u}) {
            EXPECT_EQ(shown(TextStream(), bytes, size), whole);
        }
    }
}

TEST(TextStream, StopsBeforeAStopString) {
    for (const std::size_t size : {1u, 2u, 3u, 7u, 100u}) {
        EXPECT_EQ(shown(TextStream({"END"}), "one EN two ENEND three", size), "one EN two EN");
        EXPECT_EQ(shown(TextStream({"zzz", "\n\n"}), "a\nb\n\nc", size), "a\nb");
        EXPECT_EQ(shown(TextStream({"\u20ac"}), "5 \u20ac", size), "5 ");
        // Held back, but no stop string after all.
        EXPECT_EQ(shown(TextStream({"END"}), "the EN", size), "the EN");
        EXPECT_EQ(shown(TextStream({"a"}), "a", size), "");
    }
}

TEST(TextStream, NothingComesAfterTheStop) {
    TextStream stream({"b"});
    EXPECT_EQ(stream.push("abc"), "a");
    EXPECT_TRUE(stream.stopped());
    EXPECT_EQ(stream.push("d"), "");
    EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, CountsCharacters) {
    EXPECT_EQ(count_characters(""), 0u);
    EXPECT_EQ(count_characters("a\u20ac\U0001F600"), 3u);
}

}  // namespace
}  // namespace octavo
