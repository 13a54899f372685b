#include "text/splitter.h"

#include <gtest/gtest.h>

#include "io/scratch.h"
#include "text/random_text.h"
#include "text/split_pattern.h"

namespace octavo {
namespace {

using Pieces = std::vector<std::string>;

Pieces split_by(const std::vector<std::string>& patterns, std::string_view text) {
    const Splitter splitter(patterns);
    Splitter::Scratch scratch(splitter);
    std::vector<std::uint32_t> ends;
    splitter.split(text, scratch, ends);
    Pieces pieces;
    std::size_t begin = 0;
    for (const std::uint32_t end : ends) {
        EXPECT_GT(end, begin);
        pieces.emplace_back(text.substr(begin, end - begin));
        begin = end;
    }
    EXPECT_EQ(begin, text.size());
    return pieces;
}
Pieces split(std::string_view pattern, std::string_view text) {
    return split_by({std::string(pattern)}, text);
}

TEST(Splitter, Gpt2) {
    EXPECT_EQ(split(kGpt2Pattern, "It's  12345 dogs!!\n\n x"),
              (Pieces{"It", "'s", " ", " 12345", " dogs", "!!", "\n\n", " x"}));
    EXPECT_EQ(split(kGpt2Pattern, "WE'VE"), (Pieces{"WE", "'", "VE"}));
    EXPECT_EQ(split(kGpt2Pattern, "a   "), (Pieces{"a", "   "}));
}

TEST(Splitter, Llama3) {
    EXPECT_EQ(split(kLlama3Pattern, "WE'VE 12345 (dogs)\r\n\r\n  x"),
              (Pieces{"WE", "'VE", " ", "123", "45", " (", "dogs", ")\r\n\r\n", " ", " x"}));
}

TEST(Splitter, Qwen) {
    EXPECT_EQ(split(kQwenPattern, "v12 \n\n é日本"), (Pieces{"v", "1", "2", " \n\n", " é日本"}));
}

TEST(Splitter, WhiteSpaceIsUnicodes) {
    // U+0085 is, U+180E has not been since Unicode 6.3.
    EXPECT_EQ(split(R"(\s+)", "a\u0085\u2003\u3000b"), (Pieces{"a", "\u0085\u2003\u3000", "b"}));
    EXPECT_EQ(split(R"([^\s]+)", "a\u180Eb c"), (Pieces{"a\u180Eb", " ", "c"}));
    EXPECT_EQ(split(R"(\S+)", "a\u180Eb c"), (Pieces{"a\u180Eb", " ", "c"}));
}

TEST(Splitter, PatternsOneAfterAnother) {
    EXPECT_EQ(split_by({R"(\p{N}{1,3})", R"(\s?\p{L}+)"}, "ab 1234 cd"),
              (Pieces{"ab", " ", "123", "4", " cd"}));
    EXPECT_EQ(split_by({}, "as it is"), (Pieces{"as it is"}));
    EXPECT_EQ(split(kGpt2Pattern, ""), Pieces{});
}

TEST(Splitter, NothingIsLost) {
    for (unsigned seed = 0; seed < 50; ++seed) {
        std::string text = random_text(500, seed);
        for (std::size_t i = seed; i < text.size(); i += 37) text[i] = static_cast<char>(i);
        for (const auto pattern : {kGpt2Pattern, kLlama3Pattern, kQwenPattern}) {
            split(pattern, text);  // which checks that the pieces add up
        }
    }
    EXPECT_EQ(split(kGpt2Pattern, "a\xFF\xFE b"), (Pieces{"a", "\xFF\xFE", " b"}));
}

TEST(Splitter, LongRunsOfSpace) {
    const std::string spaces(4 << 20, ' ');
    for (const auto pattern : {kGpt2Pattern, kLlama3Pattern, kQwenPattern}) {
        EXPECT_EQ(split(pattern, spaces).size(), 1u);
        EXPECT_EQ(split(pattern, spaces + "x").size(), 2u);
    }
}

TEST(Splitter, AHostilePatternGivesUp) {
    EXPECT_TRUE(contains(error_of([] { split("(?:a|a|b?a)+c", std::string(5000, 'a') + "dc"); }),
                         "gives up at byte 0"));
}

TEST(SplitPattern, RefusesByName) {
    const auto refused = [](const std::string& pattern) {
        return error_of([&] { Splitter({pattern}); });
    };
    EXPECT_TRUE(contains(refused("^a"), "an anchor at byte 0"));
    EXPECT_TRUE(contains(refused("a$"), "an anchor"));
    EXPECT_TRUE(contains(refused(R"(\w+)"), R"('\w')"));
    EXPECT_TRUE(contains(refused(R"(\bx)"), R"('\b')"));
    EXPECT_TRUE(contains(refused(R"(\h)"), R"('\h')"));
    EXPECT_TRUE(contains(refused(R"((a)\1)"), R"('\1')"));
    EXPECT_TRUE(contains(refused("(?<=a)b"), "a group of the kind '(?'"));
    EXPECT_TRUE(contains(refused("(?i)a"), "a group of the kind '(?'"));
    EXPECT_TRUE(contains(refused("[a[b]]"), "a class within a class"));
    EXPECT_TRUE(contains(refused("[a&&b]"), "a class within a class"));
    EXPECT_TRUE(contains(refused(R"([\S])"), "in a class"));
    EXPECT_TRUE(contains(refused("[]a]"), "']' as the first"));
    EXPECT_TRUE(contains(refused("[a"), "without end"));
    EXPECT_TRUE(contains(refused("a{,3}"), "'{'"));
    EXPECT_TRUE(contains(refused("a{1,2}+"), "'+' after"));
    EXPECT_TRUE(contains(refused(R"(\pL)"), "without braces"));
    EXPECT_TRUE(contains(refused(R"(\p{^L})"), "no plain name"));
    EXPECT_TRUE(contains(refused(R"(\p{Nonsense})"), "damaged"));
    EXPECT_TRUE(contains(refused(R"(\xE9)"), "a single byte"));
    EXPECT_TRUE(contains(refused(R"(\x{)"), "code point"));
    EXPECT_TRUE(contains(refused("a\\"), "as its last byte"));
    EXPECT_TRUE(contains(refused("(a"), "damaged"));
    EXPECT_TRUE(contains(refused("a*"), "matches an empty text"));
    EXPECT_TRUE(contains(refused(std::string(5000, 'a')), "at most 4096"));
}

TEST(SplitPattern, TakesWhatMeansTheSame) {
    EXPECT_EQ(split(R"([\p{Han}\u3040-\x{309F}]+)", "a日ひb"), (Pieces{"a", "日ひ", "b"}));
    EXPECT_EQ(split(R"(\d(?=x)|(y))", "1x2y"), (Pieces{"1", "x2", "y"}));
    EXPECT_EQ(split(R"([\]\-\x41]+|\.)", "a]-A.b"), (Pieces{"a", "]-A", ".", "b"}));
}

}  // namespace
}  // namespace octavo
