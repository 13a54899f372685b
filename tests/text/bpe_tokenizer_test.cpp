#include "text/bpe_tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>

#include "text/normalize.h"
#include "text/random_text.h"
#include "text/small_tokenizer.h"

namespace octavo {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<std::int32_t>;

const BpeTokenizer& fixture(const std::string& name) {
    static std::map<std::string, std::shared_ptr<const BpeTokenizer>> loaded;
    auto& tokenizer = loaded[name];
    if (!tokenizer) {
        tokenizer = std::make_shared<BpeTokenizer>(parse_tokenizer_json(fixture_json(name)), name);
    }
    return *tokenizer;
}

class Fixtures : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Files, Fixtures, testing::Values("gpt2", "qwen3"),
                         [](const auto& p) { return std::string(p.param); });

// What the Hugging Face library made of the same texts (tests/fixtures/README.md).
TEST_P(Fixtures, GoldenIds) {
    const BpeTokenizer& tokenizer = fixture(GetParam());
    const auto encoder = tokenizer.encoder();
    std::ifstream file(tokenizer_fixture(GetParam()) / "golden.jsonl");
    int lines = 0;
    for (std::string line; std::getline(file, line); ++lines) {
        const Json golden = Json::parse(line);
        Ids ids;
        encoder->encode(golden["text"].get<std::string>(), ids);
        EXPECT_EQ(ids, golden["ids"].get<Ids>()) << line;
        EXPECT_EQ(tokenizer.decode(ids), golden["decoded"].get<std::string>()) << line;
    }
    EXPECT_EQ(lines, 70);
}

TEST_P(Fixtures, AMegabyteOfRandomUnicodeRoundTrips) {
    const BpeTokenizer& tokenizer = fixture(GetParam());
    const std::string text = random_text(1 << 20, 3);
    std::string buffer;
    const std::string_view expected = tokenizer.spec().nfc ? to_nfc(text, buffer) : text;
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text)) == expected);
}

TEST_P(Fixtures, BytesThatAreNotUtf8RoundTrip) {
    std::string text;
    for (unsigned i = 0; i < 100'000; ++i) text += static_cast<char>(i * i / 7);
    const BpeTokenizer& tokenizer = fixture(GetParam());
    std::string buffer;
    const std::string_view expected = tokenizer.spec().nfc ? to_nfc(text, buffer) : text;
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text)) == expected);
}

TEST_P(Fixtures, EveryTokenDecodesAndEveryAddedTokenRoundTrips) {
    const BpeTokenizer& tokenizer = fixture(GetParam());
    for (std::int32_t id = 0; id < tokenizer.vocabulary(); ++id) {
        EXPECT_FALSE(tokenizer.bytes(id).empty());
    }
    for (const AddedToken& token : tokenizer.spec().added) {
        EXPECT_EQ(tokenizer.encode(token.content), Ids{token.id});
        EXPECT_EQ(tokenizer.decode(Ids{token.id}), token.content);
        const Ids in_text = tokenizer.encode("a" + token.content + "b");
        EXPECT_EQ(in_text, (Ids{tokenizer.encode("a")[0], token.id, tokenizer.encode("b")[0]}));
        EXPECT_EQ(tokenizer.special(token.content), token.id);
    }
}

TEST(BpeTokenizer, KnowsItsSize) {
    EXPECT_EQ(fixture("gpt2").vocabulary(), 50257);
    EXPECT_EQ(fixture("gpt2").end_of_text(), 50256);
    EXPECT_EQ(fixture("qwen3").vocabulary(), 151669);
    EXPECT_EQ(fixture("qwen3").end_of_text(), 151643);
    EXPECT_EQ(fixture("qwen3").special("<|im_end|>"), 151645);
    EXPECT_EQ(fixture("qwen3").special("<|nothing|>"), std::nullopt);
}

TEST(BpeTokenizer, MergesWithinPieces) {
    const auto tokenizer = tokenizer_of(small_tokenizer());
    EXPECT_EQ(tokenizer->encode("hello"), (Ids{258, 'o'}));
    EXPECT_EQ(tokenizer->encode("hel lo"), (Ids{256, 'l', ' ', 'l', 'o'}));
    EXPECT_EQ(tokenizer->encode("hell<|endoftext|>ll"), (Ids{258, 259, 257}));
    EXPECT_EQ(tokenizer->encode(""), Ids{});
}

TEST(BpeTokenizer, EncodersRememberAndAppend) {
    const auto tokenizer = tokenizer_of(small_tokenizer());
    const auto encoder = tokenizer->encoder();
    Ids ids = {7};
    for (int i = 0; i < 3; ++i) encoder->encode(" hell", ids);
    EXPECT_EQ(ids, (Ids{7, ' ', 258, ' ', 258, ' ', 258}));
}

TEST(BpeTokenizer, IgnoreMergesKeepsWholeTokens) {
    Json json = small_tokenizer();
    json["model"]["vocab"]["hello"] = 260;
    EXPECT_EQ(tokenizer_of(json)->encode("hello"), (Ids{258, 'o'}));
    json["model"]["ignore_merges"] = true;
    EXPECT_EQ(tokenizer_of(json)->encode("hello hello"), (Ids{260, ' ', 258, 'o'}));
}

TEST(BpeTokenizer, NormalisesAroundAddedTokens) {
    Json json = small_tokenizer();
    json["normalizer"] = {{"type", "NFC"}};
    Json normalized = added_json("e\u0301!", 260), raw = added_json("u\u0301?", 261);
    normalized["normalized"] = true;
    json["added_tokens"].push_back(normalized);
    json["added_tokens"].push_back(raw);
    const auto tokenizer = tokenizer_of(json);
    EXPECT_EQ(tokenizer->encode("é!"), Ids{260});
    EXPECT_EQ(tokenizer->encode("e\u0301!"), Ids{260});
    EXPECT_EQ(tokenizer->encode("u\u0301?"), Ids{261});
    EXPECT_EQ(tokenizer->encode("ú?"), (Ids{0xC3, 0xBA, '?'}));
}

TEST(BpeTokenizer, EndOfTextByName) {
    Json json = small_tokenizer();
    json["added_tokens"] = {added_json("<stop>", 259), added_json("</s>", 260)};
    const BpeSpec spec = parse_tokenizer_json(json.dump());
    EXPECT_EQ(BpeTokenizer(spec, "").end_of_text(), 260);
    EXPECT_EQ(BpeTokenizer(spec, "", "<stop>").end_of_text(), 259);
    EXPECT_TRUE(contains(error_of([&] { BpeTokenizer(spec, "", "<x>"); }), "'<x>'"));
    json["added_tokens"] = Json::array();
    EXPECT_EQ(tokenizer_of(json)->end_of_text(), std::nullopt);
}

TEST(BpeTokenizer, RefusesIdsThatAreNone) {
    Json json = small_tokenizer();
    json["added_tokens"] = {added_json("<stop>", 261)};
    const auto tokenizer = tokenizer_of(json);
    EXPECT_EQ(tokenizer->vocabulary(), 262);
    EXPECT_TRUE(contains(error_of([&] { tokenizer->decode(Ids{1, 262}); }), "position 1"));
    EXPECT_TRUE(contains(error_of([&] { tokenizer->bytes(259); }), "got 259"));
    EXPECT_THROW(tokenizer->bytes(-1), Error);
}

}  // namespace
}  // namespace octavo
