// The protocol, called without sockets.
#include "serve/api.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "client.h"
#include "fake_engine.h"
#include "text/small_tokenizer.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

// A tokenizer of bytes with ChatML's tokens: <|im_start|> 260, <|im_end|> 256, where the fake
// engine has its end.
std::shared_ptr<const Tokenizer> chat_tokenizer() {
    Json json = small_tokenizer();
    json["model"]["vocab"].erase("he");
    json["model"]["vocab"].erase("ll");
    json["model"]["vocab"].erase("hell");
    json["model"]["merges"] = Json::array();
    json["added_tokens"] = {added_json("<|im_end|>", 256), added_json("<|im_start|>", 257)};
    return tokenizer_of(json);
}

constexpr const char* kChatMl = "<|im_start|>{{ message['role'] }}<|im_end|>";

class ApiTest : public testing::Test {
  protected:
    // With a chat template, or a tokenizer of bytes.
    void start(bool chat = false, ApiOptions options = {}, std::int64_t queue = 8) {
        ServedModel model{.name = "m", .tokenizer = std::make_shared<ByteTokenizer>()};
        if (chat) {
            model.tokenizer = chat_tokenizer();
            model.chat = ChatTemplate::recognise(kChatMl);
        }
        serve(std::move(model), std::move(options), queue);
    }
    void start(std::shared_ptr<const Tokenizer> tokenizer) {
        serve({.name = "m", .tokenizer = std::move(tokenizer)}, {}, 8);
    }
    void serve(ServedModel model, ApiOptions options, std::int64_t queue) {
        loop_ = std::make_unique<EngineLoop>(std::make_unique<FakeEngine>(control_), queue);
        api_ = std::make_unique<Api>(std::move(model), *loop_, std::move(options));
        routes_ = api_->routes();
    }
    HttpReply call(const std::string& path, const std::string& body = "",
                   const std::string& authorization = "") {
        if (!api_) start();
        const HttpRequest request{.method = body.empty() ? "GET" : "POST",
                                  .path = path,
                                  .body = body,
                                  .authorization = authorization,
                                  .match = "",
                                  .gone = [this] { return gone_.load(); }};
        for (const HttpRoute& route : routes_) {
            if (route.path == path && route.method == request.method) return route.handler(request);
        }
        ADD_FAILURE() << "no route " << path;
        return {};
    }
    Json complete(const std::string& body, int status = 200) {
        const HttpReply reply = call("/v1/completions", body);
        EXPECT_EQ(reply.status, status) << reply.body;
        return Json::parse(reply.body);
    }
    Json chat(const std::string& body, int status = 200) {
        const HttpReply reply = call("/v1/chat/completions", body);
        EXPECT_EQ(reply.status, status) << reply.body;
        return Json::parse(reply.body);
    }
    // The events of a stream, with its last words.
    std::vector<Json> stream(const std::string& path, const std::string& body, std::string& last) {
        const HttpReply reply = call(path, body);
        EXPECT_EQ(reply.type, "text/event-stream");
        std::vector<Json> events;
        if (!reply.stream) {
            ADD_FAILURE() << reply.body;
            return events;
        }
        reply.stream([&](std::string_view piece) {
            EXPECT_TRUE(piece.starts_with("data: ") && piece.ends_with("\n\n")) << piece;
            last = piece.substr(6, piece.size() - 8);
            if (last != "[DONE]") events.push_back(Json::parse(last));
            return true;
        });
        return events;
    }

    FakeControl control_;
    std::atomic<bool> gone_ = false;
    std::unique_ptr<EngineLoop> loop_;
    std::unique_ptr<Api> api_;
    std::vector<HttpRoute> routes_;
};

TEST_F(ApiTest, CompletesAPrompt) {
    const Json reply = complete(R"({"model":"m","prompt":"ab"})");
    EXPECT_EQ(reply["object"], "text_completion");
    EXPECT_EQ(reply["model"], "m");
    EXPECT_TRUE(reply["id"].get<std::string>().starts_with("cmpl-"));
    ASSERT_EQ(reply["choices"].size(), 1u);
    EXPECT_EQ(
        reply["choices"][0],
        (Json{{"text", "hello"}, {"index", 0}, {"logprobs", nullptr}, {"finish_reason", "stop"}}));
    EXPECT_EQ(reply["usage"],
              (Json{{"prompt_tokens", 2}, {"completion_tokens", 6}, {"total_tokens", 8}}));
    const Json cut = complete(R"({"prompt":"ab","max_tokens":3})");
    EXPECT_EQ(cut["choices"][0]["text"], "hel");
    EXPECT_EQ(cut["choices"][0]["finish_reason"], "length");
}

TEST_F(ApiTest, CompletesEachPromptNTimes) {
    const Json reply = complete(R"({"prompt":["a","bc"],"n":3,"echo":true,"max_tokens":1})");
    ASSERT_EQ(reply["choices"].size(), 6u);
    for (int i = 0; i < 6; ++i) {
        EXPECT_EQ(reply["choices"][i]["index"], i);
        EXPECT_EQ(reply["choices"][i]["text"], i < 3 ? "ah" : "bch");
    }
    EXPECT_EQ(reply["usage"]["prompt_tokens"], 3);
    EXPECT_EQ(reply["usage"]["completion_tokens"], 6);
    EXPECT_EQ(complete(R"({"prompt":[104,105],"echo":true})")["choices"][0]["text"], "hihello");
}

// As evaluation harnesses ask for the likelihood of texts.
TEST_F(ApiTest, ScoresPrompts) {
    const Json reply =
        complete(R"({"prompt":[97,226,130,172],"echo":true,"max_tokens":0,"logprobs":1})");
    const Json& choice = reply["choices"][0];
    EXPECT_EQ(choice["text"], "a\u20ac");
    EXPECT_EQ(choice["finish_reason"], "length");
    const Json& logprobs = choice["logprobs"];
    EXPECT_EQ(logprobs["tokens"], (Json{"a", "bytes:\\xe2", "bytes:\\x82", "bytes:\\xac"}));
    EXPECT_EQ(logprobs["text_offset"], (Json{0, 1, 1, 1}));
    ASSERT_EQ(logprobs["token_logprobs"].size(), 4u);
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
    EXPECT_FLOAT_EQ(logprobs["token_logprobs"][1].get<float>(), -2.26f);
    EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
    EXPECT_FLOAT_EQ(logprobs["top_logprobs"][1]["!"].get<float>(), -0.25f);
    EXPECT_FLOAT_EQ(logprobs["top_logprobs"][1]["bytes:\\xe2"].get<float>(), -2.26f);
    EXPECT_EQ(reply["usage"]["completion_tokens"], 0);

    // With a token more, as lm-eval does.
    const Json more = complete(R"({"prompt":"ab","echo":true,"max_tokens":1,"logprobs":2})");
    EXPECT_EQ(more["choices"][0]["text"], "abh");
    EXPECT_EQ(more["choices"][0]["logprobs"]["tokens"], (Json{"a", "b", "h"}));
    EXPECT_EQ(more["choices"][0]["logprobs"]["text_offset"], (Json{0, 1, 2}));
    EXPECT_EQ(more["choices"][0]["logprobs"]["top_logprobs"][2].size(), 3u);
    // Only an echo.
    EXPECT_EQ(complete(R"({"prompt":"ab","echo":true,"max_tokens":0})")["choices"][0]["text"],
              "ab");
    EXPECT_EQ(complete(R"({"prompt":"ab","logprobs":3})", 400)["error"]["message"],
              "'logprobs': expected at most 2, got 3");
}

TEST_F(ApiTest, PromptsOfAnEngineThatCannotScoreThemAreRefused) {
    control_.scores_prompts = false;
    EXPECT_EQ(complete(R"({"prompt":"ab","echo":true,"logprobs":1})", 400)["error"]["param"],
              "echo");
    EXPECT_EQ(complete(R"({"prompt":"ab","echo":true})")["choices"][0]["text"], "abhello");
}

TEST_F(ApiTest, StopsAtStrings) {
    control_.reply = "one two three";
    const Json reply = complete(R"({"prompt":"a","stop":["wo","zzz"],"max_tokens":100})");
    EXPECT_EQ(reply["choices"][0]["text"], "one t");
    EXPECT_EQ(reply["choices"][0]["finish_reason"], "stop");
    EXPECT_EQ(complete(R"({"prompt":"a","stop":"e","n":2})")["choices"][1]["text"], "on");
    EXPECT_TRUE(eventually([&] { return loop_->stats().running == 0; }));
}

TEST_F(ApiTest, Chats) {
    start(/*chat=*/true);
    const std::string messages = R"("messages":[{"role":"user","content":"q"}])";
    const Json reply = chat("{" + messages + ",\"logprobs\":true,\"top_logprobs\":1}");
    EXPECT_EQ(reply["object"], "chat.completion");
    EXPECT_TRUE(reply["id"].get<std::string>().starts_with("chatcmpl-"));
    const Json& choice = reply["choices"][0];
    EXPECT_EQ(choice["message"], (Json{{"role", "assistant"}, {"content", "hello"}}));
    EXPECT_EQ(choice["finish_reason"], "stop");
    ASSERT_EQ(choice["logprobs"]["content"].size(), 5u);
    const Json& token = choice["logprobs"]["content"][0];
    EXPECT_EQ(token["token"], "h");
    EXPECT_EQ(token["bytes"], Json{104});
    EXPECT_FLOAT_EQ(token["logprob"].get<float>(), -1.04f);
    EXPECT_EQ(token["top_logprobs"][0]["token"], "!");
    // <|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n
    EXPECT_EQ(reply["usage"]["prompt_tokens"], 1 + 6 + 1 + 1 + 1 + 10);
    EXPECT_EQ(
        chat("{" + messages + R"(,"max_completion_tokens":2})")["choices"][0]["finish_reason"],
        "length");
    EXPECT_EQ(chat(R"({"messages":[{"role":"user","content":"q","reasoning_content":"x"}]})",
                   400)["error"]["param"],
              "messages");
}

TEST_F(ApiTest, ChatsNeedATemplate) {
    EXPECT_EQ(chat(R"({"messages":[{"role":"user","content":"q"}]})", 400)["error"]["message"],
              "'m' has no chat template; use /v1/completions");
}

TEST_F(ApiTest, StreamsCompletions) {
    control_.reply = "5 \u20ac!";
    std::string last;
    const auto events =
        stream("/v1/completions",
               R"({"prompt":"a","stream":true,"stream_options":{"include_usage":true}})", last);
    EXPECT_EQ(last, "[DONE]");
    ASSERT_EQ(events.size(), 6u);  // four characters, the end, the usage
    std::string text;
    for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(events[i]["object"], "text_completion");
        EXPECT_EQ(events[i]["id"], events[0]["id"]);
        EXPECT_TRUE(events[i]["usage"].is_null());
        text += events[i]["choices"][0]["text"].get<std::string>();
        const Json& reason = events[i]["choices"][0]["finish_reason"];
        EXPECT_EQ(reason, i == 4 ? Json("stop") : Json());
    }
    EXPECT_EQ(text, control_.reply);
    EXPECT_EQ(events[5]["choices"], Json::array());
    EXPECT_EQ(events[5]["usage"]["completion_tokens"], 7);
}

TEST_F(ApiTest, StreamsChats) {
    start(/*chat=*/true);
    std::string last;
    const auto events =
        stream("/v1/chat/completions",
               R"({"messages":[{"role":"user","content":"q"}],"stream":true,"n":2})", last);
    EXPECT_EQ(last, "[DONE]");
    std::string texts[2];
    int ends = 0;
    for (const Json& event : events) {
        EXPECT_EQ(event["object"], "chat.completion.chunk");
        const Json& choice = event["choices"][0];
        std::string& text = texts[choice["index"].get<std::size_t>()];
        EXPECT_EQ(choice["delta"].contains("role"), &event - events.data() < 2);
        text += choice["delta"].value("content", "");
        ends += choice["finish_reason"] == "stop";
    }
    EXPECT_EQ(texts[0], "hello");
    EXPECT_EQ(texts[1], "hello");
    EXPECT_EQ(ends, 2);
}

TEST_F(ApiTest, StreamedPartsAddUpToTheReply) {
    control_.reply = "ab\xe2\x82\xac \xff stop x";
    for (const std::string options :
         {R"("n":1)", R"("n":2,"echo":true,"logprobs":1)", R"("stop":"op","logprobs":0)",
          R"("max_tokens":3)", R"("max_tokens":0,"echo":true,"logprobs":2)"}) {
        const std::string body = R"({"prompt":["p","q"],)" + options;
        const Json whole = complete(body + "}");
        std::string last;
        Json choices = whole["choices"];
        for (Json& choice : choices) {
            choice["text"] = "";
            if (choice["logprobs"].is_object()) {
                for (auto& [name, list] : choice["logprobs"].items()) list = Json::array();
            }
        }
        for (const Json& event : stream("/v1/completions", body + ",\"stream\":true}", last)) {
            const Json& part = event["choices"][0];
            Json& choice = choices[part["index"].get<std::size_t>()];
            choice["text"] = choice["text"].get<std::string>() + part["text"].get<std::string>();
            choice["finish_reason"] = part["finish_reason"];
            if (!part["logprobs"].is_object()) continue;
            for (const auto& [name, list] : part["logprobs"].items()) {
                for (const Json& entry : list) choice["logprobs"][name].push_back(entry);
            }
        }
        EXPECT_EQ(choices, whole["choices"]) << options;
    }
}

TEST_F(ApiTest, RefusesTextsThatDoNotFit) {
    control_.context = 10;
    const Json error = complete(R"({"prompt":"12345678","max_tokens":3})", 400)["error"];
    EXPECT_EQ(
        error["message"],
        "this model takes texts of at most 10 tokens; the prompt has 8, and 3 more were asked "
        "for");
    EXPECT_EQ(error["code"], "context_length_exceeded");
    EXPECT_EQ(error["type"], "invalid_request_error");
    // What is not asked for is cut to what fits.
    EXPECT_EQ(complete(R"({"prompt":"12345678"})")["choices"][0]["text"], "he");
    complete(R"({"prompt":"1234567890"})", 400);
    complete(R"({"prompt":"1234567890","max_tokens":0,"echo":true})", 200);
    EXPECT_EQ(complete(R"({"prompt":[300]})", 400)["error"]["message"],
              "'prompt': token id 300 is outside the vocabulary of 257");
    EXPECT_EQ(complete(R"({"prompt":["a","b","c"],"n":3})", 400)["error"]["param"], "n");
    EXPECT_EQ(complete(R"({"prompt":"a","model":"other"})", 404)["error"]["code"],
              "model_not_found");
}

TEST_F(ApiTest, RepliesAreBounded) {
    start(false, {.max_reply = 60});
    const auto fits = [&](const std::string& fields, bool fit) {
        const int before = control_.submitted;
        const Json reply = complete(R"({"prompt":"ab",)" + fields + "}", fit ? 200 : 400);
        EXPECT_EQ(control_.submitted > before, fit) << fields;
        if (!fit) {
            EXPECT_EQ(reply["error"]["param"], "max_tokens") << fields;
        }
    };
    fits(R"("max_tokens":60)", true);
    fits(R"("max_tokens":61)", false);
    fits(R"("max_tokens":20,"n":3)", true);
    fits(R"("max_tokens":21,"n":3)", false);
    fits(R"("max_tokens":61,"stream":true)", false);
    fits(R"("max_tokens":60,"logprobs":0)", true);
    fits(R"("max_tokens":20,"logprobs":2)", true);
    fits(R"("max_tokens":21,"logprobs":2)", false);
    fits(R"("max_tokens":28,"echo":true,"n":2)", true);
    fits(R"("max_tokens":29,"echo":true,"n":2)", false);
    const std::string words(31, 'a');
    complete(R"({"max_tokens":0,"echo":true,"logprobs":1,"prompt":")" + words + "\"}", 400);
    complete(R"({"max_tokens":0,"echo":true,"logprobs":0,"prompt":")" + words + "\"}");
    // Without a number of tokens, what fits is given: here four.
    const Json choice = complete(R"({"prompt":"ab","n":5,"logprobs":2})")["choices"][4];
    EXPECT_EQ(choice["text"], "hell");
    EXPECT_EQ(choice["finish_reason"], "length");
}

// Vocabularies may have ids that no token has.
TEST_F(ApiTest, IdsThatAreNoTokens) {
    Json json = small_tokenizer();
    for (const char* token : {"he", "ll", "hell"}) json["model"]["vocab"].erase(token);
    json["model"]["merges"] = Json::array();
    start(tokenizer_of(json));  // 256 to 258 are none
    const Json error = complete(R"({"prompt":[97,257]})", 400)["error"];
    EXPECT_EQ(error["param"], "prompt");
    EXPECT_EQ(error["message"], "'prompt': the id 257 is no token, though below 260");
    control_.first = 257;
    control_.likely = 258;
    const Json choice = complete(R"({"prompt":[97],"max_tokens":3,"logprobs":2})")["choices"][0];
    EXPECT_EQ(choice["text"], "he");
    EXPECT_EQ(choice["logprobs"]["tokens"], (Json{"", "h", "e"}));
    EXPECT_EQ(choice["logprobs"]["text_offset"], (Json{0, 0, 1}));
    EXPECT_EQ(choice["logprobs"]["top_logprobs"][1].size(), 2u);  // "?" and its own
}

// What there is no room for is not encoded: wrong ids would be found.
TEST_F(ApiTest, RoomComesBeforeEncoding) {
    control_.hold_after = 0;
    start(false, {}, 2);
    EXPECT_EQ(complete(R"({"prompt":[[300],[300]],"n":2})", 400)["error"]["param"], "n");
    std::thread first([&] { complete(R"({"prompt":"a","n":2})"); });
    ASSERT_TRUE(eventually([&] { return control_.submitted == 2; }));
    complete(R"({"prompt":[300]})", 429);
    control_.hold_after = -1;
    first.join();
    // And what cannot be encoded leaves its room.
    for (int i = 0; i < 3; ++i) complete(R"({"prompt":[300],"n":2})", 400);
    EXPECT_EQ(loop_->stats().waiting, 0);
    complete(R"({"prompt":"a","n":2})");
}

TEST_F(ApiTest, AnswersTooManyRequestsWith429) {
    control_.hold_after = 0;
    start(false, {}, 2);
    std::atomic<int> done = 0;
    std::thread first([&] {
        complete(R"({"prompt":"a","n":2})");
        ++done;
    });
    ASSERT_TRUE(eventually([&] { return loop_->stats().waiting + loop_->stats().running == 2; }));
    const HttpReply reply = call("/v1/completions", R"({"prompt":"a"})");
    EXPECT_EQ(reply.status, 429);
    EXPECT_EQ(reply.headers.at("Retry-After"), "1");
    EXPECT_EQ(Json::parse(reply.body)["error"]["code"], "rate_limit_exceeded");
    control_.hold_after = -1;
    first.join();
    EXPECT_EQ(done, 1);
}

TEST_F(ApiTest, CancelsWhenTheClientIsGoneOrTimeIsUp) {
    control_.hold_after = 2;
    gone_ = true;
    EXPECT_EQ(complete(R"({"prompt":"a"})", 503)["error"]["type"], "server_error");
    EXPECT_TRUE(eventually([&] { return control_.cancelled == 1; }));
    gone_ = false;
    routes_.clear();
    api_.reset();
    start(false, {.time_limit = std::chrono::milliseconds(50)});
    control_.steps = 2;
    EXPECT_EQ(complete(R"({"prompt":"a"})", 503)["error"]["code"], "timeout");
    std::string last;
    stream("/v1/completions", R"({"prompt":"a","stream":true})", last);
    EXPECT_EQ(Json::parse(last)["error"]["code"], "timeout");
}

// Not only while nothing comes.
TEST_F(ApiTest, CancelsInTheMidstOfTokens) {
    control_.reply = std::string(100000, 'a');
    control_.context = 200000;
    control_.step_us = 1000;
    const std::string endless = R"({"prompt":"a","max_tokens":100000})";
    std::thread client([&] {
        eventually([&] { return control_.steps > 20; });
        gone_ = true;
    });
    complete(endless, 503);
    client.join();
    EXPECT_TRUE(eventually([&] { return control_.cancelled == 1; }));
    EXPECT_LT(control_.steps, 50000);
    gone_ = false;
    routes_.clear();
    api_.reset();
    start(false, {.time_limit = std::chrono::milliseconds(300)});
    EXPECT_EQ(complete(endless, 503)["error"]["code"], "timeout");
}

TEST_F(ApiTest, AStreamEndsWhenNobodyTakesIt) {
    start();
    const HttpReply reply = call("/v1/completions", R"({"prompt":"a","stream":true})");
    int pieces = 0;
    reply.stream([&](std::string_view) { return ++pieces < 2; });
    EXPECT_EQ(pieces, 2);
}

TEST_F(ApiTest, AFailedEngineIsUnhealthy) {
    control_.fail_after = 1;
    EXPECT_EQ(complete(R"({"prompt":"a"})", 500)["error"]["message"], "the device fell off");
    EXPECT_EQ(call("/health").status, 503);
    complete(R"({"prompt":"a"})", 500);
}

TEST_F(ApiTest, AsksForTheKey) {
    start(false, {.key = "secret"});
    for (const char* wrong :
         {"", "Bearer", "Bearer ", "Bearer secre", "Bearer secret1", "secret"}) {
        EXPECT_EQ(call("/v1/models", "", wrong).status, 401) << wrong;
        EXPECT_EQ(call("/v1/completions", "{}", wrong).status, 401) << wrong;
    }
    EXPECT_EQ(call("/v1/models", "", "Bearer secret").status, 200);
    EXPECT_EQ(call("/health").status, 200);
}

TEST_F(ApiTest, TellsAboutItself) {
    const Json models = Json::parse(call("/v1/models").body);
    EXPECT_EQ(models["data"][0]["id"], "m");
    EXPECT_EQ(models["data"][0]["max_model_len"], 1000);
    EXPECT_EQ(call("/health").body, "{\"status\":\"ok\"}");
    complete(R"({"prompt":"abc"})");
    const std::string metrics = call("/metrics").body;
    for (const char* line :
         {"\noctavo_texts_running 0\n", "\noctavo_texts_limit 8\n",
          "\noctavo_prompt_tokens_total 3\n", "\noctavo_generated_tokens_total 6\n",
          "\noctavo_texts_finished_total 1\n",
          "\noctavo_requests_total{path=\"/v1/completions\",status=\"200\"} 1\n"}) {
        EXPECT_NE(metrics.find(line), std::string::npos) << line << " in\n" << metrics;
    }
}

}  // namespace
}  // namespace octavo
