#include "io/tokens_info.h"

#include <gtest/gtest.h>

#include "scratch.h"

namespace octavo {
namespace {

TEST(TokensInfo, ReadsWhatLiesBesideTheTokens) {
    const Scratch dir;
    EXPECT_EQ(tokens_info(dir / "train.bin"), TokensInfo{});
    dir.write("tokens.json", R"({"tokenizer": "byte"})");
    EXPECT_EQ(tokens_info(dir / "train.bin"),
              (TokensInfo{.tokenizer = "byte", .fingerprint = "byte"}));
    dir.write(
        "tokens.json",
        R"({"tokenizer": "bpe", "fingerprint": "f", "end_of_text_token": "<e>", "end_of_text": 7, "more": [1]})");
    EXPECT_EQ(tokens_info(dir / "train.bin"), (TokensInfo{"bpe", "f", "<e>", 7}));
}

TEST(TokensInfo, DamageIsNamed) {
    const Scratch dir;
    for (const char* bad : {"", "{", "[]", "{}", R"({"tokenizer": 3})"}) {
        dir.write("tokens.json", bad);
        EXPECT_TRUE(contains(error_of([&] { tokens_info(dir / "train.bin"); }), "tokens.json"));
    }
}

}  // namespace
}  // namespace octavo
