#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>

#include "text/small_tokenizer.h"

namespace octavo {
namespace {

using Json = nlohmann::json;
using Chat = std::vector<Message>;

constexpr const char* kChatMl =
    R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";
constexpr const char* kQwen2 =
    R"({% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";
constexpr const char* kLlama3 =
    R"({% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})";
constexpr const char* kDatedParts =
    R"({{- bos_token }}{%- set date_string = "26 Jul 2024" %}{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}{{- "Cutting Knowledge Date: December 2023\n" }}{{- "Today Date: " + date_string + "\n\n" }}{{ system | trim + '<|eot_id|>' }})";

const Chat kChat = {{"user", " hi\n"}, {"assistant", "hell "}};

TEST(ChatTemplate, ChatMl) {
    const ChatTemplate t = ChatTemplate::recognise(kChatMl, "<s>");
    EXPECT_EQ(t.name(), "chatml");
    EXPECT_EQ(t.end_of_turn(), "<|im_end|>");
    EXPECT_EQ(t.text(kChat, false),
              "<|im_start|>user\n hi\n<|im_end|>\n<|im_start|>assistant\nhell <|im_end|>\n");
    EXPECT_EQ(t.text(Chat{{"user", "q"}}, true),
              "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, AnswersToChatsWithoutASystemMessage) {
    const ChatTemplate t = ChatTemplate::recognise(kQwen2);
    EXPECT_EQ(t.name(), "chatml");
    EXPECT_EQ(t.text(Chat{{"user", "q"}}, false),
              "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
              "<|im_start|>user\nq<|im_end|>\n");
    EXPECT_EQ(t.text(Chat{{"system", "s"}}, false), "<|im_start|>system\ns<|im_end|>\n");
}

TEST(ChatTemplate, LineBreaksInLiteralsAreEscapedOrThere) {
    std::string there = kQwen2;  // as a tokenizer_config.json with "\n" has it
    for (auto at = there.find("\\n"); at != there.npos; at = there.find("\\n")) {
        there.replace(at, 2, "\n");
    }
    ASSERT_NE(there, kQwen2);
    const ChatTemplate t = ChatTemplate::recognise(there);
    for (const Chat& chat : {Chat{{"user", "q"}}, Chat{{"system", "s"}}}) {
        EXPECT_EQ(t.text(chat, true), ChatTemplate::recognise(kQwen2).text(chat, true));
    }
    EXPECT_EQ(ChatTemplate::recognise(std::string(kChatMl) +
                                      R"({{ "<|im_start|>system\nIt\'s\n\"I\".<|im_end|>\n" }})")
                  .text(Chat{{"user", "q"}}, false),
              "<|im_start|>system\nIt's\n\"I\".<|im_end|>\n<|im_start|>user\nq<|im_end|>\n");
}

TEST(ChatTemplate, SystemMessagesOfTheChatAndOfToolsAreNoneOfItsOwn) {
    for (const char* part :
         {R"({{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }})",
          R"({{ "<|im_start|>system\n" + message.content + "<|im_end|>\n" }})",
          R"({%- if tools %} {{- '<|im_start|>system\n' }}{{- 'Tools' }}{% endif %})"}) {
        const ChatTemplate t = ChatTemplate::recognise(std::string(kChatMl) + part);
        EXPECT_EQ(t.text(Chat{{"user", "q"}}, false), "<|im_start|>user\nq<|im_end|>\n") << part;
    }
}

TEST(ChatTemplate, OtherSystemMessagesAreRefused) {
    for (const char* part :
         {R"({{ '<|im_start|>system\n' + system_message + '<|im_end|>\n' }})",
          R"({{ '<|im_start|>system\n' + messages[0].content if a else 'b' + '<|im_end|>\n' }})",
          R"({% if a %}{{ '<|im_start|>system\n' }}{{ 'You are' }}{% endif %})",
          R"({% if tools is none %}{{ '<|im_start|>system\n' }}{{ 'You are' }}{% endif %})",
          R"({{ '<|im_start|>system You are<|im_end|>\n' }})",
          R"({{ '<|im_start|>system\n\x41<|im_end|>\n' }})", "{{ '<|im_start|>system",
          "{% if a %}<|im_start|>system\nYou are<|im_end|>\n{% endif %}"}) {
        EXPECT_TRUE(
            contains(error_of([&] { ChatTemplate::recognise(std::string(kChatMl) + part); }),
                     "the chat template has '<|im_start|>system', but not as"))
            << part;
    }
}

TEST(ChatTemplate, Llama3) {
    const ChatTemplate t = ChatTemplate::recognise(kLlama3, "<|begin_of_text|>");
    EXPECT_EQ(t.name(), "llama3");
    EXPECT_EQ(t.end_of_turn(), "<|eot_id|>");
    EXPECT_EQ(t.text(kChat, true),
              "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\nhell<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n");
    EXPECT_EQ(t.text(Chat{{"user", "\u3000 x\u00A0\x1F"}}, false),
              "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|>");
}

TEST(ChatTemplate, Llama31HasDates) {
    const ChatTemplate t = ChatTemplate::recognise(kDatedParts, "<b>");
    const std::string dates =
        "<b><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n";
    EXPECT_EQ(t.text(Chat{{"system", " s "}}, false), dates + "s<|eot_id|>");
    EXPECT_EQ(t.text(Chat{{"user", "u"}}, false),
              dates + "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nu<|eot_id|>");
}

// What Jinja made of Qwen3's template, and the Hugging Face library of that.
TEST(ChatTemplate, Qwen3Goldens) {
    const auto t = read_chat_template(tokenizer_fixture("qwen3"));
    ASSERT_TRUE(t);
    EXPECT_EQ(t->name(), "qwen3");
    EXPECT_EQ(t->end_of_turn(), "<|im_end|>");
    const BpeTokenizer tokenizer(parse_tokenizer_json(fixture_json("qwen3")), "");
    const auto encoder = tokenizer.encoder();
    std::ifstream file(tokenizer_fixture("qwen3") / "chats.jsonl");
    int lines = 0;
    for (std::string line; std::getline(file, line); ++lines) {
        const Json golden = Json::parse(line);
        Chat chat;
        for (const Json& m : golden["messages"]) chat.push_back({m["role"], m["content"]});
        EXPECT_EQ(t->text(chat, golden["ask"]), golden["text"].get<std::string>());
        const ChatTokens tokens = t->encode(chat, golden["ask"], tokenizer, *encoder);
        EXPECT_EQ(tokens.ids, golden["ids"].get<std::vector<std::int32_t>>()) << line;
        EXPECT_EQ(tokens.learn.size(), tokens.ids.size());
    }
    EXPECT_EQ(lines, 28);
}

// What Jinja made of Qwen3's template and messages with reasoning_content.
TEST(ChatTemplate, Qwen3Reasoning) {
    const auto t = read_chat_template(tokenizer_fixture("qwen3"));
    ASSERT_TRUE(t);
    const Message q{"user", "q"};
    const auto after_question = [&](const Chat& answers) {
        Chat chat{q};
        chat.insert(chat.end(), answers.begin(), answers.end());
        const std::string text = t->text(chat, false), question = "<|im_start|>user\nq<|im_end|>\n";
        EXPECT_TRUE(text.starts_with(question));
        return text.substr(question.size());
    };
    EXPECT_EQ(after_question({{"assistant", "\n\na", "\nr\n"}}),
              "<|im_start|>assistant\n<think>\nr\n</think>\n\na<|im_end|>\n");
    EXPECT_EQ(after_question({{"assistant", "a</think>b", ""}}),
              "<|im_start|>assistant\n<think>\n\n</think>\n\na</think>b<|im_end|>\n");
    EXPECT_EQ(after_question({{"assistant", "\na", "\n"}, {"assistant", "b", "r"}}),
              "<|im_start|>assistant\n<think>\n\n</think>\n\na<|im_end|>\n"
              "<|im_start|>assistant\n<think>\nr\n</think>\n\nb<|im_end|>\n");
    EXPECT_EQ(after_question({{"assistant", "a", ""}, {"assistant", "b", "r"}}),
              "<|im_start|>assistant\na<|im_end|>\n"
              "<|im_start|>assistant\n<think>\nr\n</think>\n\nb<|im_end|>\n");
    EXPECT_EQ(after_question({{"assistant", "\na", "r"}, q, {"assistant", "b"}}),
              "<|im_start|>assistant\n\na<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
              "<|im_start|>assistant\n<think>\n\n</think>\n\nb<|im_end|>\n");
    EXPECT_EQ(after_question({{"assistant", "<think>x</think>a", "r"}, q}),
              "<|im_start|>assistant\n<think>x</think>a<|im_end|>\n"
              "<|im_start|>user\nq<|im_end|>\n");
}

TEST(ChatTemplate, LearnsTheAssistantsTokens) {
    Json json = small_tokenizer();
    int id = 260;
    for (const char* name : {"<|im_start|>", "<|im_end|>", "<|start_header_id|>",
                             "<|end_header_id|>", "<|eot_id|>", "<b>"}) {
        json["added_tokens"].push_back(added_json(name, id++));
    }
    const auto tokenizer = tokenizer_of(json);
    const auto learned = [&](const ChatTemplate& t, bool ask) {
        const ChatTokens tokens = t.encode(kChat, ask, *tokenizer, *tokenizer->encoder());
        EXPECT_EQ(tokenizer->decode(tokens.ids), t.text(kChat, ask));
        std::string text;
        for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
            if (tokens.learn[i]) text += tokenizer->bytes(tokens.ids[i]);
        }
        return text;
    };
    for (const bool ask : {false, true}) {
        EXPECT_EQ(learned(ChatTemplate::recognise(kChatMl), ask), "hell <|im_end|>");
        EXPECT_EQ(learned(ChatTemplate::recognise(kLlama3, "<b>"), ask), "hell<|eot_id|>");
    }
}

TEST(ChatTemplate, ChecksTheTokenizer) {
    Json json = small_tokenizer();
    const auto error = [&](const ChatTemplate& t) {
        return error_of([&] { t.check_tokenizer(*tokenizer_of(json)); });
    };
    const ChatTemplate chatml = ChatTemplate::recognise(kChatMl);
    const ChatTemplate llama3 = ChatTemplate::recognise(kLlama3, "<b>");
    EXPECT_TRUE(contains(error(chatml), "expected '<|im_start|>', which the chatml chat template"));
    int id = 260;
    const auto add = [&](const char* name) {
        json["added_tokens"].push_back(added_json(name, id++));
    };
    add("<|im_start|>");
    EXPECT_TRUE(contains(error(chatml), "expected '<|im_end|>'"));
    add("<|im_end|>");
    EXPECT_NO_THROW(chatml.check_tokenizer(*tokenizer_of(json)));
    for (const char* name : {"<b>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}) {
        EXPECT_TRUE(contains(error(llama3), fmt::format("expected '{}', which the llama3", name)));
        add(name);
    }
    EXPECT_NO_THROW(llama3.check_tokenizer(*tokenizer_of(json)));
}

TEST(ChatTemplate, RefusesByName) {
    const auto refused = [](std::string jinja) {
        return error_of([&] { ChatTemplate::recognise(jinja); });
    };
    EXPECT_TRUE(contains(refused("{{ '[INST]' }}"), "neither <|im_start|>"));
    EXPECT_TRUE(contains(refused(std::string(kChatMl) + "{{ strftime_now('%d') }}"), "'strftime'"));
    EXPECT_TRUE(contains(refused(std::string(kChatMl) + "{{ eos_token }}"), "'eos_token'"));
    EXPECT_TRUE(contains(refused(std::string(kChatMl) + "| trim"), "'trim'"));
    EXPECT_TRUE(contains(refused(std::string(kChatMl) + "<think>"), "not 'last_query_index'"));
    EXPECT_TRUE(contains(refused(std::string(kQwen2) + R"('<|im_start|>system\nOther<|im_end|>')"),
                         "two system messages of its own"));
    EXPECT_TRUE(contains(
        refused(std::string(kQwen2) + "<think>last_query_index reasoning_content enable_thinking"),
        "unlike Qwen3's"));
    EXPECT_TRUE(contains(refused(std::string(kDatedParts) + "strftime_now"), "'strftime'"));
    EXPECT_TRUE(contains(refused(std::string(kLlama3) + "Cutting Knowledge Date: May 2025"),
                         "other dates"));
    const ChatTemplate t = ChatTemplate::recognise(kChatMl);
    EXPECT_TRUE(contains(error_of([&] { t.text(Chat{{"tool", "x"}}, false); }), "got 'tool'"));
    EXPECT_TRUE(contains(error_of([&] { t.text({}, false); }), "at least one message"));
}

TEST(ChatTemplate, ReadsFolders) {
    const Scratch dir;
    EXPECT_EQ(read_chat_template(dir / "").has_value(), false);
    dir.write("tokenizer_config.json", R"({"bos_token": null})");
    EXPECT_EQ(read_chat_template(dir / "").has_value(), false);
    dir.write("tokenizer_config.json",
              Json{{"chat_template", kLlama3}, {"bos_token", {{"content", "<b>"}}}}.dump());
    EXPECT_TRUE(read_chat_template(dir / "")->text(kChat, false).starts_with("<b><|start"));
    dir.write("tokenizer_config.json", Json{{"chat_template",
                                             {{{"name", "tool_use"}, {"template", "?"}},
                                              {{"name", "default"}, {"template", kChatMl}}}}}
                                           .dump());
    EXPECT_EQ(read_chat_template(dir / "")->name(), "chatml");
    dir.write("chat_template.jinja", kLlama3);
    EXPECT_EQ(read_chat_template(dir / "")->name(), "llama3");
    dir.write("chat_template.jinja", "?");
    EXPECT_TRUE(contains(error_of([&] { read_chat_template(dir / ""); }), "chat_template.jinja: "));
    // The token's file is named, whichever has the template.
    dir.write("tokenizer_config.json", R"({"bos_token": {"content": 5}})");
    EXPECT_TRUE(contains(error_of([&] { read_chat_template(dir / ""); }),
                         "tokenizer_config.json: bos_token: expected a string in 'content', got "
                         "number"));
    dir.write("tokenizer_config.json", R"({"bos_token": [5]})");
    EXPECT_TRUE(contains(error_of([&] { read_chat_template(dir / ""); }),
                         "tokenizer_config.json: expected a string in 'bos_token', got array"));
    for (const std::string& text : {std::string("{"), "{\"a\": " + std::string(300'000, '[')}) {
        dir.write("tokenizer_config.json", text);
        EXPECT_TRUE(
            contains(error_of([&] { read_chat_template(dir / ""); }), "tokenizer_config.json: "));
    }
}

}  // namespace
}  // namespace octavo
