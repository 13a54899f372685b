#include "text/added_tokens.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

// The text with every token in brackets.
std::string marked(const AddedTokenFinder& finder, std::string_view text) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const auto match = finder.find(text, at);
        out += text.substr(at, match.begin - at);
        if (match.id >= 0) {
            out += "[" + std::to_string(match.id) + ":";
            out += text.substr(match.begin, match.end - match.begin);
            out += "]";
        }
        at = match.end;
    }
    return out;
}

TEST(AddedTokens, LeftmostThenLongest) {
    const AddedTokenFinder finder({{.id = 1, .content = "ab"},
                                   {.id = 2, .content = "abcd"},
                                   {.id = 3, .content = "bcde"},
                                   {.id = 4, .content = "c"}});
    EXPECT_EQ(marked(finder, "xabcx"), "x[1:ab][4:c]x");
    EXPECT_EQ(marked(finder, "xabcde"), "x[2:abcd]e");
    EXPECT_EQ(marked(finder, "bcde"), "[3:bcde]");
    EXPECT_EQ(marked(finder, "bcd"), "b[4:c]d");
    EXPECT_EQ(marked(finder, ""), "");
    EXPECT_EQ(marked(AddedTokenFinder(), "abc"), "abc");
}

TEST(AddedTokens, StripTakesWhiteSpace) {
    const AddedTokenFinder finder(
        {{.id = 1, .content = "<l>", .lstrip = true}, {.id = 2, .content = "<r>", .rstrip = true}});
    EXPECT_EQ(marked(finder, "a \u3000\n<l> b"), "a[1: \u3000\n<l>] b");
    EXPECT_EQ(marked(finder, "a <r> \t\u0085b"), "a [2:<r> \t\u0085]b");
    EXPECT_EQ(marked(finder, "<r> <l>"), "[2:<r> ][1:<l>]");
    EXPECT_EQ(marked(finder, " <l>"), "[1: <l>]");
    EXPECT_EQ(marked(finder, "<r> "), "[2:<r> ]");
    EXPECT_EQ(marked(finder, "\xE3\x80<l>"), "\xE3\x80[1:<l>]");
}

TEST(AddedTokens, SingleWordsStandAlone) {
    const AddedTokenFinder finder({{.id = 1, .content = "word", .single_word = true}});
    EXPECT_EQ(marked(finder, "word"), "[1:word]");
    EXPECT_EQ(marked(finder, "a word, word!"), "a [1:word], [1:word]!");
    EXPECT_EQ(marked(finder, "words sword word_ 1word éword wordé"),
              "words sword word_ 1word éword wordé");
    EXPECT_EQ(marked(finder, "日word\u0301 \u00BDword"), "日word\u0301 \u00BD[1:word]");
}

}  // namespace
}  // namespace octavo
