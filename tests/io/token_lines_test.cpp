#include "io/token_lines.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "scratch.h"
#include "text/byte_tokenizer.h"

namespace octavo {
namespace {

std::string encoded(const std::filesystem::path& file, const std::string& column = "text") {
    std::string out;
    encode_lines(file, column, ByteTokenizer(), [&](std::string_view line) { out += line; });
    return out;
}
std::string decoded(const std::filesystem::path& file) {
    std::string out;
    decode_lines(file, ByteTokenizer(), [&](std::string_view line) { out += line; });
    return out;
}

TEST(TokenLines, ALineOutForEveryLineIn) {
    const Scratch dir;
    const std::string texts =
        "{\"text\": \"ab\\n\"}\n\n{\"text\": \"\"}\n{\"x\": 1, \"text\": \"é\"}";
    const std::string ids = "{\"ids\": [97, 98, 10]}\n{\"ids\": []}\n{\"ids\": [195, 169]}\n";
    EXPECT_EQ(encoded(dir.write("a.jsonl", texts)), ids);
    EXPECT_EQ(decoded(dir.write("b.jsonl", ids)),
              "{\"text\": \"ab\\n\"}\n{\"text\": \"\"}\n{\"text\": \"é\"}\n");
    EXPECT_EQ(encoded(dir.write("c.jsonl", "{\"body\": \"a\"}\n"), "body"), "{\"ids\": [97]}\n");
    EXPECT_EQ(encoded(dir.write("d.jsonl", "")), "");
}

TEST(TokenLines, Chats) {
    const Scratch dir;
    const ChatTemplate chat_template = ChatTemplate::recognise("<|im_start|><|im_end|>");
    const auto encoded_chats = [&](const std::string& line) {
        std::string out;
        encode_chats(dir.write("a.jsonl", line), chat_template, ByteTokenizer(),
                     [&](std::string_view l) { out += l; });
        return out;
    };
    const std::string out = encoded_chats(
        R"({"messages": [{"role": "assistant", "content": "yes", "more": 1}], "id": 7})");
    const auto json = nlohmann::json::parse(out);
    EXPECT_EQ(ByteTokenizer().decode(json["ids"].get<std::vector<std::int32_t>>()),
              "<|im_start|>assistant\nyes<|im_end|>\n");
    std::vector<int> learn(12 + 10, 0);
    learn.insert(learn.end(), 3 + 10, 1);
    learn.push_back(0);
    EXPECT_EQ(json["learn"].get<std::vector<int>>(), learn);

    const auto refused = [&](const char* line) { return error_of([&] { encoded_chats(line); }); };
    EXPECT_TRUE(contains(refused("{}"), "a.jsonl: line 1: expected an object with a list"));
    EXPECT_TRUE(contains(refused(R"({"messages": [{"role": "user"}]})"), "message 1: expected"));
    EXPECT_TRUE(contains(refused(R"({"messages": ["x"]})"), "message 1: expected"));
    EXPECT_TRUE(contains(refused(R"({"messages": []})"), "at least one message"));
    EXPECT_TRUE(contains(refused(R"({"messages": [{"role": "x", "content": ""}]})"), "got 'x'"));
}

TEST(TokenLines, ManyLinesKeepTheirOrder) {
    const Scratch dir;
    std::string texts, ids;
    for (int i = 0; i < 3000; ++i) {
        texts += "{\"text\": \"" + std::string(2000, static_cast<char>('a' + i % 26)) + "\"}\n";
    }
    const std::string out = encoded(dir.write("a.jsonl", texts));
    EXPECT_EQ(decoded(dir.write("b.jsonl", out)), texts);
}

TEST(TokenLines, HalfCharactersAreReplaced) {
    const Scratch dir;
    EXPECT_EQ(decoded(dir.write("a.jsonl", "{\"ids\": [97, 195]}")), "{\"text\": \"a\uFFFD\"}\n");
}

TEST(TokenLines, BadLinesAreNamed) {
    const Scratch dir;
    const auto encode_error = [&](const std::string& line) {
        return error_of([&] { encoded(dir.write("a.jsonl", "{\"text\": \"\"}\n" + line)); });
    };
    const auto decode_error = [&](const std::string& line) {
        return error_of([&] { decoded(dir.write("b.jsonl", "{\"ids\": []}\n" + line)); });
    };
    EXPECT_TRUE(contains(encode_error("{}"), "a.jsonl: line 2: the object has no field 'text'"));
    EXPECT_TRUE(contains(encode_error("nonsense"), "a.jsonl: line 2: not valid JSON"));
    EXPECT_TRUE(contains(decode_error("{\"ids\": [1,"), "b.jsonl: line 2: not valid JSON"));
    EXPECT_TRUE(contains(decode_error("{\"id\": [1]}"), "a list in the field 'ids'"));
    EXPECT_TRUE(contains(decode_error("[1]"), "a list in the field 'ids'"));
    EXPECT_TRUE(contains(decode_error("{\"ids\": [1.5]}"), "expected token ids in 'ids', got 1.5"));
    EXPECT_TRUE(contains(decode_error("{\"ids\": [-1]}"), "got -1"));
    EXPECT_TRUE(contains(decode_error("{\"ids\": [4294967297]}"), "got 4294967297"));
    EXPECT_TRUE(
        contains(decode_error("{\"ids\": [7, 257]}"), "line 2: position 1: byte tokenizer"));
}

}  // namespace
}  // namespace octavo
