#include "text/normalize.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>

#include "text/random_text.h"

namespace octavo {
namespace {

std::string nfc(std::string_view text) {
    std::string buffer;
    return std::string(to_nfc(text, buffer));
}

TEST(Nfc, Composes) {
    EXPECT_EQ(nfc("e\u0301"), "é");
    EXPECT_EQ(nfc("xe\u0301y"), "xéy");
    EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307");  // marks in the order of their classes
    EXPECT_EQ(nfc("\u1112\u1161\u11AB"), "\uD55C");    // Hangul
    EXPECT_EQ(nfc("\uAC00\u11A8"), "\uAC01");
    EXPECT_EQ(nfc("\u212B"), "\u00C5");        // the Angstrom sign is a letter
    EXPECT_EQ(nfc("\u0958"), "\u0915\u093C");  // excluded from composition
    EXPECT_EQ(nfc("\u0301a"), "\u0301a");
    EXPECT_EQ(nfc(""), "");
}

TEST(Nfc, LeavesTextInNormalFormWhereItIs) {
    const std::string text = "plain é 日本語 한국어 🌞";
    std::string buffer;
    EXPECT_EQ(to_nfc(text, buffer).data(), text.data());
}

TEST(Nfc, BytesThatAreNotUtf8Stay) {
    EXPECT_EQ(nfc("e\xFF\u0301"), "e\xFF\u0301");
    EXPECT_EQ(nfc("e\u0301\xE2\x82"), "é\xE2\x82");
    EXPECT_EQ(nfc("\xC3"), "\xC3");
}

TEST(Nfc, AgreesWithTheWholeTextAtOnce) {
    for (unsigned seed = 0; seed < 300; ++seed) {
        const std::string text = random_text(300, seed);
        utf8proc_uint8_t* out = nullptr;
        const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        const auto n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                    std::ssize(text), &out, options);
        ASSERT_GE(n, 0);
        const std::string expected(reinterpret_cast<char*>(out), static_cast<std::size_t>(n));
        std::free(out);
        ASSERT_EQ(nfc(text), expected) << "seed " << seed;
    }
}

TEST(Nfc, LongRunsOfMarksTakeLinearTime) {
    std::string text = "a";
    for (int i = 0; i < 300'000; ++i) text += i % 2 ? "\u0301" : "\u0323";
    const std::string normal = nfc(text);
    EXPECT_TRUE(normal.starts_with("\u1EA1\u0323\u0323")) << normal.substr(0, 12);
    EXPECT_EQ(nfc(normal), normal);
}

}  // namespace
}  // namespace octavo
