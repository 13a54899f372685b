#include "train/run_tokenizer.h"

#include <gtest/gtest.h>

#include "io/scratch.h"

namespace octavo {
namespace {

using Extra = std::map<std::string, std::string>;

TEST(RunTokenizer, GoesOnOnlyWithItsOwn) {
    const RunTokenizer bytes{.info = {"byte", "byte", ""}}, bpe{.info = {"bpe", "x", "<e>"}},
        unknown;
    const auto resumes = [](const RunTokenizer& t, const Extra& extra) {
        try {
            t.check_trained(extra, "");
            return true;
        } catch (const Error&) {
            return false;
        }
    };
    for (const RunTokenizer& t : {bytes, bpe, unknown}) {
        EXPECT_TRUE(resumes(t, t.extra()));
        EXPECT_TRUE(resumes(t, unknown.extra()));
        EXPECT_TRUE(resumes(unknown, t.extra()));
        EXPECT_TRUE(resumes(t, {}));
    }
    EXPECT_FALSE(resumes(bpe, bytes.extra()));
    EXPECT_FALSE(resumes(bytes, bpe.extra()));
    // From before there were fingerprints.
    EXPECT_TRUE(resumes(bytes, {{"tokenizer", "byte"}}));
    EXPECT_FALSE(resumes(bpe, {{"tokenizer", "byte"}}));
}

TEST(RunTokenizer, IsFoundBesideTheTokensOrInTheModelsFolder) {
    const Scratch dir;
    dir.write("tokenizer.json", "the tokenizer");
    dir.write("tokenizer_config.json", "its config");
    dir.write("other.txt", "");
    RunConfig config;
    config.data.train = {(dir / "train.bin").string()};
    EXPECT_TRUE(tokenizer_of(config).files.empty());  // nothing says that they belong to the tokens
    config.model.path = (dir / "").string();
    EXPECT_EQ(tokenizer_of(config).files.size(), 2u);
    config.model.path.clear();
    dir.write("tokens.json",
              R"({"tokenizer": "bpe", "fingerprint": "x", "end_of_text_token": "e"})");
    EXPECT_EQ(tokenizer_of(config).info, (TokensInfo{"bpe", "x", "e"}));
    EXPECT_EQ(tokenizer_of(config).files.at("tokenizer.json"), "the tokenizer");
    dir.write("tokens.json", R"({"tokenizer": "byte"})");
    EXPECT_TRUE(tokenizer_of(config).files.empty());
}

TEST(RunTokenizer, OfModels) {
    const Scratch dir;
    EXPECT_EQ(tokenizer_of_model(dir / "", {}), nullptr);
    EXPECT_EQ(tokenizer_of_model(dir / "", {{"tokenizer", "byte"}})->kind(), "byte");
    dir.write("tokenizer.json", "{}");
    EXPECT_TRUE(
        contains(error_of([&] { tokenizer_of_model(dir / "", {}); }), "tokenizer.json: model"));
}

}  // namespace
}  // namespace octavo
