#include "io/token_lines.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "scratch.h"
#include "text/byte_tokenizer.h"
#include "text/split_pattern.h"
#include "text/train_bpe.h"

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

// Bytes, and the special tokens of ChatML, whose template has `more` in it.
class Chats : public testing::Test {
  protected:
    std::string encoded(const std::string& line, const std::string& more = "") const {
        std::string out;
        encode_chats(dir_.write("a.jsonl", line), "messages",
                     ChatTemplate::recognise("<|im_start|><|im_end|>" + more), *tokenizer_,
                     [&](std::string_view l) { out += l; });
        return out;
    }
    std::string text(const std::string& line, const std::string& more = "") const {
        const auto json = nlohmann::json::parse(encoded(line, more));
        return tokenizer_->decode(json["ids"].get<std::vector<std::int32_t>>());
    }
    std::string refused(const std::string& line, const std::string& more = "") const {
        return error_of([&] { encoded(line, more); });
    }
    static std::shared_ptr<const Tokenizer> make_tokenizer(std::vector<std::string> special) {
        BpeTrainer trainer({.vocabulary = 256 + static_cast<std::int32_t>(special.size()),
                            .pattern = std::string(kGpt2Pattern),
                            .special = std::move(special)});
        trainer.add(std::vector<std::string>{"x"});
        return std::make_shared<BpeTokenizer>(trainer.train(), "");
    }

    static constexpr const char* kQwen3 =
        "<think>last_query_index reasoning_content enable_thinking";
    Scratch dir_;
    std::shared_ptr<const Tokenizer> tokenizer_ = make_tokenizer({"<|im_start|>", "<|im_end|>"});
};

TEST_F(Chats, AreIdsAndWhoseTheyAre) {
    const std::string line =
        R"({"messages": [{"role": "assistant", "content": "yes", "tool_calls": null}], "id": 7})";
    EXPECT_EQ(text(line), "<|im_start|>assistant\nyes<|im_end|>\n");
    std::vector<int> learn(1 + 10, 0);
    learn.insert(learn.end(), 3 + 1, 1);
    learn.push_back(0);
    EXPECT_EQ(nlohmann::json::parse(encoded(line))["learn"].get<std::vector<int>>(), learn);
}

TEST_F(Chats, RefuseByName) {
    EXPECT_TRUE(contains(refused("{}"), "a.jsonl: line 1: expected an object with a list"));
    EXPECT_TRUE(contains(refused(R"({"messages": [{"role": "user"}]})"), "message 1: expected"));
    EXPECT_TRUE(contains(refused(R"({"messages": ["x"]})"), "message 1: expected"));
    EXPECT_TRUE(contains(refused(R"({"messages": []})"), "at least one message"));
    EXPECT_TRUE(
        contains(refused(R"({"messages": [{"role": "x", "content": ""}]})"),
                 "line 1: message 1: expected the role system, user or assistant, got 'x'"));
    for (const std::string name : {"tools", "documents", "chat_template_kwargs"}) {
        EXPECT_TRUE(contains(refused("{\"messages\": [], \"" + name + "\": []}"),
                             "line 1: expected a chat of messages alone, got the field '" + name));
    }
    for (const std::string name : {"tool_calls", "name", "x"}) {
        EXPECT_TRUE(contains(refused(R"({"messages": [{"role": "user", "content": "a"}, )"
                                     R"({"role": "user", "content": "a", ")" +
                                     name + "\": []}]}"),
                             "message 2: expected the fields 'role', 'content' and "
                             "'reasoning_content', got '" +
                                 name + "'"));
    }
}

TEST_F(Chats, OnlyQwen3sAssistantReasons) {
    const std::string line = R"({"messages": [{"role": "user", "content": "q"}, )"
                             R"({"role": "assistant", "content": "a", "reasoning_content": "r"}]})";
    EXPECT_EQ(text(line, kQwen3),
              "<|im_start|>user\nq<|im_end|>\n"
              "<|im_start|>assistant\n<think>\nr\n</think>\n\na<|im_end|>\n");
    EXPECT_TRUE(contains(refused(line), "message 2: expected no 'reasoning_content'"));
    EXPECT_TRUE(contains(
        refused(R"({"messages": [{"role": "user", "content": "a", "reasoning_content": "r"}]})",
                kQwen3),
        "message 1: expected no 'reasoning_content'"));
    EXPECT_TRUE(contains(
        refused(R"({"messages": [{"role": "assistant", "content": "a", "reasoning_content": 1}]})",
                kQwen3),
        "message 1: expected an object with a string in the field 'reasoning_content'"));
}

TEST_F(Chats, NeedTheTemplatesTokens) {
    tokenizer_ = make_tokenizer({"<|im_start|>", "<|endoftext|>"});
    EXPECT_TRUE(contains(refused(R"({"messages": [{"role": "user", "content": "a"}]})"),
                         "expected '<|im_end|>', which the chatml chat template writes"));
}

TEST(TokenLines, DeepNestingIsRefused) {
    const Scratch dir;
    const std::string deep(300'000, '[');
    const std::string closed = deep + std::string(deep.size(), ']');
    for (const std::string& list : {deep, closed}) {
        EXPECT_TRUE(
            contains(error_of([&] { decoded(dir.write("a.jsonl", "{\"ids\": " + list + "}")); }),
                     "a.jsonl: line 1: ids/"));
    }
    // Short of that limit, what came is named by its type.
    EXPECT_EQ(error_of([&] {
                  decoded(dir.write("a.jsonl", "{\"ids\": [1, [[2]]]}"));
              }).substr(dir.write("a.jsonl", "").string().size()),
              ": line 1: expected token ids in 'ids', got array at position 1");
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
    EXPECT_TRUE(
        contains(decode_error("{\"ids\": [1,"), "b.jsonl: line 2: expected JSON, got at byte"));
    EXPECT_TRUE(contains(decode_error("{\"id\": [1]}"), "a list in the field 'ids'"));
    EXPECT_TRUE(contains(decode_error("[1]"), "expected a JSON object, got a list"));
    EXPECT_TRUE(contains(decode_error("{\"ids\": [1.5]}"), "expected token ids in 'ids', got 1.5"));
    EXPECT_TRUE(contains(decode_error("{\"ids\": [-1]}"), "got -1"));
    EXPECT_TRUE(contains(decode_error("{\"ids\": [4294967297]}"), "got 4294967297"));
    EXPECT_TRUE(
        contains(decode_error("{\"ids\": [7, 257]}"), "line 2: position 1: byte tokenizer"));
}

}  // namespace
}  // namespace octavo
