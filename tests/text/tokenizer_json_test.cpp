#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

#include "text/small_tokenizer.h"
#include "text/split_pattern.h"

namespace octavo {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<std::int32_t>;

// The error that the small tokenizer.json gives after `change`.
template <class Change>
std::string refusal(Change&& change) {
    Json json = small_tokenizer();
    change(json);
    return error_of([&] { tokenizer_of(json); });
}

TEST(TokenizerJson, MergesAsStringsOrPairs) {
    Json json = small_tokenizer();
    const BpeSpec strings = parse_tokenizer_json(json.dump());
    json["model"]["merges"] = Json::parse(R"([["h", "e"], ["l", "l"], ["he", "ll"]])");
    const BpeSpec pairs = parse_tokenizer_json(json.dump());
    EXPECT_EQ(strings.merges, pairs.merges);
    EXPECT_EQ(strings.merges,
              (std::vector<Merge>{{'h', 'e', 256}, {'l', 'l', 257}, {256, 257, 258}}));
}

TEST(TokenizerJson, ReadsSplits) {
    const auto patterns = [](const Json& pre) {
        Json json = small_tokenizer();
        json["pre_tokenizer"] = pre;
        return parse_tokenizer_json(json.dump()).patterns;
    };
    const Json end = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const auto split = [](const Json& pattern) {
        return Json{
            {"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
    };
    const auto sequence = [&](std::vector<Json> parts) {
        parts.push_back(end);
        return Json{{"type", "Sequence"}, {"pretokenizers", parts}};
    };
    using Patterns = std::vector<std::string>;
    EXPECT_EQ(patterns(end), Patterns{});
    EXPECT_EQ(patterns({{"type", "ByteLevel"}}), Patterns{std::string(kGpt2Pattern)});
    EXPECT_EQ(patterns(sequence({split({{"Regex", kLlama3Pattern}})})),
              Patterns{std::string(kLlama3Pattern)});
    EXPECT_EQ(patterns(sequence({split({{"String", "a.b"}})})), Patterns{R"(a\.b)"});
    EXPECT_EQ(patterns(sequence({{{"type", "Digits"}, {"individual_digits", true}}})),
              Patterns{R"(\p{N})"});
}

TEST(TokenizerJson, TheTemplateBeginsTexts) {
    Json json = small_tokenizer();
    json["added_tokens"].push_back(added_json("<s>", 260));
    const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const auto special = [](const char* name) {
        return Json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
    };
    Json processing = {{"type", "TemplateProcessing"},
                       {"single", {special("<s>"), text, special("<|endoftext|>")}}};
    json["post_processor"] = {{"type", "Sequence"},
                              {"processors", {{{"type", "ByteLevel"}}, processing}}};
    EXPECT_EQ(parse_tokenizer_json(json.dump()).begin, Ids{260});
    processing["single"] = {special("<t>"), text};
    json["post_processor"] = processing;
    EXPECT_TRUE(contains(error_of([&] { tokenizer_of(json); }), "'<t>' is not among"));
}

TEST(TokenizerJson, TokensThatAreNoBytesStayText) {
    Json json = small_tokenizer();
    json["model"]["vocab"]["two words"] = 259;
    json["added_tokens"] = {added_json("two words", 259)};
    const auto tokenizer = tokenizer_of(json);
    EXPECT_EQ(tokenizer->encode("two words"), Ids{259});
    EXPECT_EQ(tokenizer->bytes(259), "two words");
}

TEST(TokenizerJson, LoadsFilesAndFolders) {
    const Scratch dir;
    dir.write("tokenizer.json", small_tokenizer().dump());
    const auto by_folder = load_tokenizer(dir / ""),
               by_file = load_tokenizer(dir / "tokenizer.json");
    EXPECT_EQ(by_folder->fingerprint(), by_file->fingerprint());
    EXPECT_TRUE(contains(by_file->fingerprint(), "xxh64:"));
    dir.write("tokenizer.json", small_tokenizer().dump(1));
    EXPECT_NE(load_tokenizer(dir / "")->fingerprint(), by_file->fingerprint());
    EXPECT_TRUE(contains(error_of([&] { load_tokenizer(dir / "none.json"); }), "none.json"));
    dir.write("bad.json", "{");
    EXPECT_TRUE(
        contains(error_of([&] { load_tokenizer(dir / "bad.json"); }), "bad.json: expected JSON"));
}

TEST(TokenizerJson, RefusesByNameWhatWouldChangeIds) {
    const auto set = [](const char* pointer, const Json& value) {
        return refusal([&](Json& j) { j[Json::json_pointer(pointer)] = value; });
    };
    EXPECT_TRUE(contains(set("/model/type", "Unigram"), "model: the type 'Unigram'"));
    EXPECT_TRUE(contains(set("/model/type", "WordPiece"), "'WordPiece' is not supported"));
    EXPECT_TRUE(contains(set("/model/dropout", 0.1), "'dropout'"));
    EXPECT_TRUE(contains(set("/model/byte_fallback", true), "'byte_fallback'"));
    EXPECT_TRUE(contains(set("/model/end_of_word_suffix", "</w>"), "'end_of_word_suffix'"));
    EXPECT_TRUE(contains(set("/model/continuing_subword_prefix", "##"), "'continuing_subword"));
    EXPECT_TRUE(contains(set("/normalizer", {{"type", "NFKC"}}), "normalizer: 'NFKC'"));
    EXPECT_TRUE(contains(
        set("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}}),
        "'Lowercase'"));
    EXPECT_TRUE(contains(set("/pre_tokenizer", nullptr), "pre_tokenizer: none"));
    EXPECT_TRUE(contains(set("/pre_tokenizer", {{"type", "Metaspace"}}), "'Metaspace'"));
    EXPECT_TRUE(contains(set("/pre_tokenizer/add_prefix_space", true), "'add_prefix_space'"));
    EXPECT_TRUE(contains(set("/pre_tokenizer", {{"type", "Digits"}}), "does not end in ByteLevel"));
    EXPECT_TRUE(
        contains(set("/pre_tokenizer",
                     {{"type", "Split"}, {"behavior", "Removed"}, {"pattern", {{"Regex", "a"}}}}),
                 "the behavior 'Removed'"));
    EXPECT_TRUE(contains(set("/post_processor", {{"type", "BertProcessing"}}), "'BertProcessing'"));
    EXPECT_TRUE(contains(set("/decoder", {{"type", "Metaspace"}}), "decoder: 'Metaspace'"));
    EXPECT_TRUE(contains(set("/decoder", nullptr), "decoder: 'none'"));
    EXPECT_TRUE(contains(set("/truncation", {{"max_length", 512}}), "truncation"));
    EXPECT_TRUE(contains(set("/padding", {{"strategy", "x"}}), "padding"));
}

TEST(TokenizerJson, BadInputIsNamed) {
    const auto set = [](const char* pointer, const Json& value) {
        return refusal([&](Json& j) { j[Json::json_pointer(pointer)] = value; });
    };
    EXPECT_TRUE(contains(set("/model/vocab/he", 1 << 22), "'he' has the id 4194304"));
    EXPECT_TRUE(contains(set("/model/vocab/he", -1), "'he' has the id -1"));
    EXPECT_TRUE(contains(set("/model/vocab/he", 257), "two tokens have the id 257"));
    EXPECT_TRUE(contains(set("/model/vocab/he", "x"), "model/vocab: did not expect a string"));
    EXPECT_TRUE(contains(set("/model/vocab", Json::object()), "missing or empty"));
    EXPECT_TRUE(contains(set("/model/vocab", {1}), "model/vocab: did not expect a list"));
    EXPECT_TRUE(contains(set("/model/vocab", {{"a", 0}}), "a token for every byte"));
    EXPECT_TRUE(contains(set("/model/merges", {"h e", "he"}), "a space between them, got 'he'"));
    EXPECT_TRUE(contains(set("/model/merges", {"h e l"}), "got 'h e l'"));
    EXPECT_TRUE(contains(set("/model/merges", {{"h"}}), "expected pairs, got a list of 1"));
    EXPECT_TRUE(contains(set("/model/merges", {{"h", "e", "l"}}), "a list of 3"));
    EXPECT_TRUE(contains(set("/model/merges", {{{"h"}, "e"}}), "model/merges: did not expect"));
    EXPECT_TRUE(contains(set("/model/merges", {"h o"}), "model/merges: 'ho' is not in the vocab"));
    EXPECT_TRUE(contains(set("/model/merges", 3), "model/merges"));
    EXPECT_TRUE(contains(set("/model", nullptr), "model"));
    EXPECT_TRUE(contains(set("/added_tokens", {{{"id", 300}}}), "a string in 'content'"));
    EXPECT_TRUE(contains(set("/added_tokens", Json::array_t{added_json("", 300)}), "no content"));
    EXPECT_TRUE(
        contains(set("/added_tokens", Json::array_t{added_json("x", -1)}), "has the id -1"));
    EXPECT_TRUE(contains(set("/added_tokens", Json::array_t{added_json("<x>", 5)}),
                         "which another token has"));
    EXPECT_TRUE(contains(set("/added_tokens", Json::array_t{added_json("he", 300)}),
                         "and 256 in the vocab"));
    EXPECT_TRUE(contains(set("/added_tokens", 5), "expected a list, got number"));
    EXPECT_TRUE(contains(set("/pre_tokenizer", "x"), "expected an object, got string"));

    const auto parse = [](const std::string& json) {
        return error_of([&] { parse_tokenizer_json(json); });
    };
    EXPECT_TRUE(contains(parse(""), "expected JSON"));
    EXPECT_TRUE(contains(parse("[]"), "expected a JSON object"));
    EXPECT_TRUE(contains(parse("3"), "expected a JSON object"));
    EXPECT_TRUE(contains(parse(R"({"a": 1, "a": 2})"), "'a' appears twice"));
    EXPECT_TRUE(contains(parse(R"({"model": {"vocab": {"a": 1, "a": 2}}})"), "'a' appears twice"));
    EXPECT_TRUE(
        contains(parse(R"({"model": {"vocab": {}, "vocab": {}}})"), "'vocab' appears twice"));
    std::string deep = "1";
    for (int i = 0; i < 100'000; ++i) deep = "[" + deep;
    EXPECT_TRUE(contains(parse("{\"a\": " + deep), "nested more than 32 deep"));
    EXPECT_TRUE(contains(parse("{\"model\": {\"vocab\": {\"a\": 1e999}}}"), "expected JSON"));
}

TEST(TokenizerJson, EveryTruncationIsAnError) {
    const std::string json = small_tokenizer().dump();
    for (std::size_t n = 0; n < json.size(); n += 13) {
        EXPECT_THROW(parse_tokenizer_json(json.substr(0, n)), Error);
    }
}

}  // namespace
}  // namespace octavo
