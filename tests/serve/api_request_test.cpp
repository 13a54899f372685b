#include "serve/api_request.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

struct Refusal {
    int status = 0;
    std::string message, param;
};

template <class Parse>
Refusal refusal_of(Parse parse, const std::string& json) {
    try {
        parse(json);
    } catch (const ApiError& error) {
        return {error.status, error.what(), error.param};
    }
    return {};
}
Refusal completion(const std::string& json) { return refusal_of(parse_completion_request, json); }
Refusal chat(const std::string& json) { return refusal_of(parse_chat_request, json); }
// With the fields that there must be.
Refusal field(const std::string& member) { return completion(R"({"prompt":"a",)" + member + "}"); }
Refusal chat_field(const std::string& member) {
    return chat(R"({"messages":[{"role":"user","content":"a"}],)" + member + "}");
}

TEST(ApiRequest, ReadsACompletion) {
    const CompletionRequest r = parse_completion_request(
        R"({"model":"m","prompt":"a\u00e9\ud83d\ude00","max_tokens":7,"temperature":0.5,"top_p":0.9,
            "top_k":40,"n":2,"seed":-1,"stop":["x","y"],"logprobs":3,"echo":true,"stream":true,
            "stream_options":{"include_usage":true},"user":"u","best_of":1,"suffix":null,
            "presence_penalty":0,"frequency_penalty":0.0,"logit_bias":{}})");
    EXPECT_EQ(r.model, "m");
    ASSERT_EQ(r.prompts.size(), 1u);
    EXPECT_EQ(std::get<std::string>(r.prompts[0]), "a\u00e9\U0001F600");
    EXPECT_EQ(r.max_tokens, 7);
    EXPECT_EQ(r.sampling.temperature, 0.5);
    EXPECT_EQ(r.sampling.top_p, 0.9);
    EXPECT_EQ(r.sampling.top_k, 40);
    EXPECT_EQ(r.n, 2);
    EXPECT_EQ(r.seed, ~std::uint64_t{0});
    EXPECT_EQ(r.stop, (std::vector<std::string>{"x", "y"}));
    EXPECT_EQ(r.logprobs, 3);
    EXPECT_TRUE(r.echo && r.stream && r.stream_usage);

    const CompletionRequest least = parse_completion_request(R"({"prompt":""})");
    EXPECT_FALSE(least.max_tokens || least.seed || least.logprobs || least.echo || least.stream);
    EXPECT_EQ(least.sampling.temperature, 1);
    EXPECT_EQ(least.n, 1);
    // null is what some clients send for what is not set.
    const CompletionRequest null = parse_completion_request(
        R"({"prompt":"a","max_tokens":null,"stop":null,"seed":null,"top_k":-1,"tools":null})");
    EXPECT_FALSE(null.max_tokens);
    EXPECT_EQ(null.sampling.top_k, 0);
    EXPECT_EQ(parse_completion_request(R"({"prompt":"a","stop":"x"})").stop.size(), 1u);
}

TEST(ApiRequest, ReadsPromptsOfAllForms) {
    const auto prompts = [](const std::string& json) {
        return parse_completion_request("{\"prompt\":" + json + "}").prompts;
    };
    using Ids = std::vector<std::int32_t>;
    EXPECT_EQ(prompts(R"("a")"), (std::vector<Prompt>{"a"}));
    EXPECT_EQ(prompts(R"(["a","b"])"), (std::vector<Prompt>{"a", "b"}));
    EXPECT_EQ(prompts("[1,2]"), (std::vector<Prompt>{Ids{1, 2}}));
    EXPECT_EQ(prompts("[[1],[2,3]]"), (std::vector<Prompt>{Ids{1}, Ids{2, 3}}));
    EXPECT_EQ(prompts(R"([[1],"a"])"), (std::vector<Prompt>{Ids{1}, "a"}));
    for (const char* bad : {"[]", "[[]]", "7", "{}", "true", "[1,\"a\"]", "[1.5]", "[-1]",
                            "[2147483648]", "[null]", "[[\"a\"]]", "[1,[2]]"}) {
        const Refusal refusal = completion(std::string("{\"prompt\":") + bad + "}");
        EXPECT_EQ(refusal.status, 400) << bad;
        EXPECT_EQ(refusal.param, "prompt") << bad;
    }
    EXPECT_EQ(completion("{}").message,
              "'prompt': expected a string, a list of strings, or token ids, got nothing");
}

TEST(ApiRequest, ReadsAChat) {
    const ChatRequest r = parse_chat_request(
        R"({"messages":[{"role":"system","content":"s"},
                        {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
                        {"role":"assistant","content":"c","reasoning_content":"r","tool_calls":[]}],
            "max_tokens":5,"max_completion_tokens":6,"logprobs":true,"top_logprobs":2,
            "tools":[],"tool_choice":"none","response_format":{"type":"text"},"store":false})");
    ASSERT_EQ(r.messages.size(), 3u);
    EXPECT_EQ(r.messages[0].role, "system");
    EXPECT_EQ(r.messages[1].content, "ab");
    EXPECT_EQ(r.messages[2].reasoning, "r");
    EXPECT_EQ(r.max_tokens, 6);
    EXPECT_EQ(r.logprobs, 2);
    const auto plain =
        parse_chat_request(R"({"messages":[{"role":"developer","content":"a"}],"logprobs":true})");
    EXPECT_EQ(plain.logprobs, 0);
    EXPECT_EQ(plain.messages[0].role, "system");
}

TEST(ApiRequest, NamesTheFieldAndWhatCame) {
    const struct {
        const char *member, *message;
    } cases[] = {
        {R"("temperature":"hot")", "'temperature': expected a number from 0 to 100, got \"hot\""},
        {R"("temperature":-1)", "'temperature': expected a number from 0 to 100, got -1"},
        {R"("top_p":0)", "'top_p': expected a number above 0, got 0"},
        {R"("top_p":1.5)", "'top_p': expected a number from 0 to 1, got 1.5"},
        {R"("top_k":1.5)", "'top_k': expected an integer from -1 to 2147483647, got 1.5"},
        {R"("max_tokens":0)", "'max_tokens': expected at least 1 without \"echo\", got 0"},
        {R"("max_tokens":-1)", "'max_tokens': expected an integer of at least 0, got -1"},
        {R"("max_tokens":1e30)", "'max_tokens': expected an integer of at least 0, got 1e+30"},
        {R"("max_tokens":[])",
         "'max_tokens': expected an integer of at least 0, got an empty list"},
        {R"("n":0)", "'n': expected an integer from 1 to 128, got 0"},
        {R"("n":true)", "'n': expected an integer from 1 to 128, got true"},
        {R"("stop":"")", "'stop': expected a string that is not empty or a list of them, got \"\""},
        {R"("stop":[1])", "'stop': expected a string that is not empty or a list of them, got 1"},
        {R"("stream":1)", "'stream': expected true or false, got 1"},
        {R"("echo":"yes")", "'echo': expected true or false, got \"yes\""},
        {R"("model":5)", "'model': expected a string, got 5"},
        {R"("seed":"a")",
         "'seed': expected an integer from -9223372036854775808 to "
         "9223372036854775807, got \"a\""},
        {R"("stream_options":{"x":1})",
         "'stream_options': expected only \"include_usage\", true or false, got another member"},
        {R"("best_of":3)", "'best_of': this is not supported, got 3"},
        {R"("suffix":"z")", "'suffix': this is not supported, got \"z\""},
        {R"("logit_bias":{"1":2})", "'logit_bias': this is not supported, got an object"},
        {R"("presence_penalty":0.5)", "'presence_penalty': this is not supported, got 0.5"},
        {R"("temprature":1)", "'temprature': there is no such field"},
    };
    for (const auto& [member, message] : cases) {
        const Refusal refusal = field(member);
        EXPECT_EQ(refusal.message, message);
        EXPECT_EQ(refusal.status, 400);
        EXPECT_EQ(refusal.message.find("'" + refusal.param + "'"), 0u);
    }
}

TEST(ApiRequest, NamesWhatIsWrongInChats) {
    EXPECT_EQ(chat("{}").message, "'messages': expected a list of messages, got nothing");
    EXPECT_EQ(chat(R"({"messages":[]})").message,
              "'messages': expected a list of messages, got an empty list");
    EXPECT_EQ(chat(R"({"messages":["a"]})").message,
              "'messages[0]': expected an object, got \"a\"");
    EXPECT_EQ(chat(R"({"messages":[{"role":"user"}]})").message,
              "'messages[0]': expected \"content\", got none");
    EXPECT_EQ(chat(R"({"messages":[{"role":"tool","content":"a"}]})").message,
              "'messages[0]': expected the \"role\" system, user or assistant, got \"tool\"");
    EXPECT_EQ(chat(R"({"messages":[{"role":7,"content":"a"}]})").param, "messages[0]");
    EXPECT_EQ(chat(R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})").message,
              "'messages[0]': expected parts {\"type\": \"text\", \"text\": ...} in \"content\"; "
              "images and sounds are not supported");
    EXPECT_EQ(chat(R"({"messages":[{"role":"user","content":"a","tool_calls":[1]}]})").message,
              "'messages[0]': the member \"tool_calls\" is not supported");
    EXPECT_EQ(chat_field(R"("tools":[{"type":"function"}])").message,
              "'tools': this is not supported, got a list");
    EXPECT_EQ(chat_field(R"("response_format":{"type":"json_object"})").message,
              "'response_format': this is not supported, got an object");
    EXPECT_EQ(chat_field(R"("top_logprobs":1)").message,
              "'top_logprobs': expected \"logprobs\": true beside it");
    EXPECT_EQ(chat_field(R"("logprobs":1)").message, "'logprobs': expected true or false, got 1");
    EXPECT_EQ(chat_field(R"("max_tokens":0)").message,
              "'max_tokens': expected an integer of at least 1, got 0");
}

TEST(ApiRequest, RefusesWhatIsNoJson) {
    for (const std::string bad :
         {"", "{", "[]", "7", "null", "\"a\"", "{\"prompt\":\"a\"} x", "{\"prompt\":\"\\ud800\"}",
          "{\"prompt\":\"\\udc00\\ud800\"}", "{\"prompt\":\"\xff\"}",
          "{\"prompt\":\"a\",\"n\":1e999}", "{\"prompt\":\"a\",\"n\":99999999999999999999}",
          "{\"prompt\":\"a\",\"prompt\":\"b\"}", "{\"prompt\":\"a\",\"n\":NaN}",
          "{\"prompt\":\"a\"\x01}"}) {
        EXPECT_EQ(completion(bad).status, 400) << bad;
    }
    std::string deep = "{\"prompt\":";
    for (int i = 0; i < 100000; ++i) deep += '[';
    EXPECT_NE(completion(deep).message.find("nested more than 32 deep"), std::string::npos);
    const std::string large = "{\"prompt\":\"a\",\"" + std::string(100000, 'k') + "\":1}";
    EXPECT_LT(completion(large).message.size(), 200u);
    EXPECT_LT(field("\"model\":[\"" + std::string(100000, 'v') + "\"]").message.size(), 200u);
    EXPECT_LT(field("\"n\":\"" + std::string(100000, 'v') + "\"").message.size(), 200u);
}

}  // namespace
}  // namespace octavo
