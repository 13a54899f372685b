#include "text/byte_tokenizer.h"

#include <gtest/gtest.h>

#include "io/scratch.h"

namespace octavo {
namespace {

using Tokens = std::vector<std::int32_t>;

TEST(ByteTokenizer, AllBytesRoundTrip) {
    std::string text;
    for (int i = 0; i < 256; ++i) text.push_back(static_cast<char>(i));
    const Tokens tokens = ByteTokenizer().encode(text);
    ASSERT_EQ(tokens.size(), 256u);
    for (int i = 0; i < 256; ++i) EXPECT_EQ(tokens[i], i);
    EXPECT_EQ(ByteTokenizer().decode(tokens), text);
}

TEST(ByteTokenizer, EncodeAppends) {
    Tokens tokens = {ByteTokenizer::kEndOfText};
    const auto encoder = ByteTokenizer().encoder();
    encoder->encode("a\xff", tokens);
    encoder->encode("", tokens);
    EXPECT_EQ(tokens, (Tokens{256, 97, 255}));
}

TEST(ByteTokenizer, EndOfTextHasNoBytes) {
    EXPECT_EQ(ByteTokenizer().decode(Tokens{104, 256, 105, 256}), "hi");
    EXPECT_EQ(ByteTokenizer().decode({}), "");
}

TEST(ByteTokenizer, DecodeRefusesOtherIds) {
    const std::string error = error_of([] { ByteTokenizer().decode(Tokens{1, 257}); });
    EXPECT_TRUE(
        contains(error, "position 1: byte tokenizer: expected token ids below 257, got 257"));
    EXPECT_THROW(ByteTokenizer().decode(Tokens{-1}), Error);
}

TEST(ByteTokenizer, PromptsBeginAsTextsDidInTraining) {
    const ByteTokenizer tokenizer;
    EXPECT_EQ(prompt_begin(tokenizer, true), Tokens{256});
    EXPECT_EQ(prompt_begin(tokenizer, false), Tokens{});
    EXPECT_EQ(prompt_ids(tokenizer, "a", true), (Tokens{256, 'a'}));
    EXPECT_EQ(prompt_ids(tokenizer, "a", false), Tokens{'a'});
    EXPECT_EQ(prompt_ids(tokenizer, "", false), Tokens{256});  // there must be something
}

}  // namespace
}  // namespace octavo
