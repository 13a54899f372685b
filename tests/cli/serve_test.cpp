// octavo serve, asked over its socket.
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "http/http.h"
#include "serve/client.h"

namespace octavo::test {
namespace {

using Json = nlohmann::json;

class Serve : public Workspace {
  protected:
    void SetUp() override {
        if (!http_library()) GTEST_SKIP() << "this build has no HTTP";
        Workspace::SetUp();
    }
    // A server of the run or folder `model`, once it listens.
    Process serve(const std::string& model, std::vector<std::string> more = {}) {
        std::vector<std::string> args{"serve", "--model",   path(model), "--port",
                                      "0",     "--backend", "cpu"};
        args.insert(args.end(), more.begin(), more.end());
        Process server(args, folder_ / "serve.log");
        EXPECT_TRUE(server.wait_for_text("/v1 (")) << server.log();
        const std::string log = server.log();
        const auto at = log.find("http://127.0.0.1:");
        if (at != log.npos) port_ = std::stoi(log.substr(at + 17));
        return server;
    }
    std::string ask(const std::string& request) const {
        Client client(port_);
        client.send(request);
        return client.read_reply();
    }
    Json complete(const std::string& body) const {
        const std::string reply = ask(post("/v1/completions", body));
        EXPECT_EQ(status_of(reply), 200) << reply;
        return Json::parse(reply.substr(reply.find("\r\n\r\n") + 4));
    }
    // A Hugging Face folder with a tokenizer.
    void make_model() const {
        for (const std::vector<std::string>& args :
             {std::vector<std::string>{"tokenize", path("text.txt"), "--train-bpe", "300",
                                       "--special", "<|im_start|>,<|im_end|>", "--out",
                                       path("bpe")},
              {"tokenize", path("text.txt"), "--tokenizer", path("bpe"), "--out", path("data"),
               "--held-out", "0.1"},
              train("run", "bf16"),
              {"convert", path("run"), "--out", path("model")}}) {
            const Finished made = run(args);
            ASSERT_EQ(made.exit_code, 0) << made.text;
        }
    }
    std::string generate(const std::vector<std::string>& flags) const {
        std::vector<std::string> args{"generate", path("run"), "--tokens",
                                      "20",       "--backend", "cpu"};
        args.insert(args.end(), flags.begin(), flags.end());
        return run(args).text;
    }

    int port_ = 0;
};

TEST_F(Serve, GivesWhatGenerateGives) {
    ASSERT_EQ(run(train("run", "bf16")).exit_code, 0);
    const Process server = serve("run");
    const auto text = [&](const std::string& options) {
        const Json reply =
            complete(R"({"prompt":"line 7","max_tokens":20,"echo":true,)" + options + "}");
        return reply["choices"].back()["text"].get<std::string>() + "\n";
    };
    EXPECT_EQ(text(R"("temperature":0)"), generate({"--prompt", "line 7", "--temperature", "0"}));
    EXPECT_EQ(text(R"("temperature":0.8,"seed":5,"top_k":9)"),
              generate({"--prompt", "line 7", "--seed", "5", "--top-k", "9"}));

    // Log-probabilities of a scored text are those it had when it was generated.
    const Json made = complete(R"({"prompt":"line","max_tokens":8,"logprobs":2,"temperature":0})");
    const Json scored = complete(Json{
        {"prompt", "line" + made["choices"][0]["text"].get<std::string>()},
        {"max_tokens", 0},
        {"logprobs", 2},
        {"echo", true}}.dump());
    const Json& all = scored["choices"][0]["logprobs"]["token_logprobs"];
    const Json& last = made["choices"][0]["logprobs"]["token_logprobs"];
    ASSERT_EQ(all.size(), 1 + 4 + 8);  // the end of a text, "line", and the new bytes
    for (std::size_t i = 0; i < 8; ++i) {
        EXPECT_NEAR(all[5 + i].get<double>(), last[i].get<double>(), 2e-2);
    }

    const std::string long_prompt =
        ask(post("/v1/completions", R"({"prompt":"line","max_tokens":100})"));
    EXPECT_EQ(status_of(long_prompt), 400);
    EXPECT_NE(long_prompt.find("at most 64 tokens; the prompt has 5, and 100 more"),
              std::string::npos);
    EXPECT_EQ(status_of(ask(get("/health"))), 200);
    server.send(SIGTERM);
    const Finished ended = server.wait();
    EXPECT_EQ(ended.exit_code, 0);
    EXPECT_NE(ended.text.find("\nstopped\n"), std::string::npos) << ended.text;
}

TEST_F(Serve, ChatsInTheTemplateOfTheFolder) {
    ASSERT_NO_FATAL_FAILURE(make_model());
    write("model/tokenizer_config.json", "{\"chat_template\": \"<|im_start|> <|im_end|>\"}");
    const Process server = serve("model", {"--api-key", "k", "--name", "mine"});
    const std::string body =
        R"({"model":"mine","messages":[{"role":"user","content":"line"}],"max_tokens":4,"stream":true})";
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", body))), 401);
    Client client(port_);
    client.send(
        post("/v1/chat/completions", body, "Authorization: Bearer k\r\nConnection: close\r\n"));
    const std::string reply = client.read_all();
    EXPECT_EQ(status_of(reply), 200);
    EXPECT_NE(reply.find("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"), std::string::npos);
    EXPECT_NE(reply.find("data: [DONE]\n\n"), std::string::npos) << reply;
    server.send(SIGINT);
    EXPECT_EQ(server.wait().exit_code, 0);
}

TEST_F(Serve, TextsStopAtTheTokensOfGenerationConfig) {
    ASSERT_NO_FATAL_FAILURE(make_model());
    const auto generated = [&] {
        return Json::parse(run({"generate", path("model"), "--prompt", "line 7", "--tokens", "12",
                                "--seed", "5", "--json", "--backend", "cpu"})
                               .text);
    };
    const Json whole = generated();
    const auto ids = whole["ids"].get<std::vector<int>>();
    ASSERT_EQ(ids.size(), 12u) << whole;
    std::size_t last = ids.size() - 1;  // a token that has not come before
    const auto is_new = [&] {
        return std::find(ids.begin(), ids.begin() + last, ids[last]) == ids.begin() + last;
    };
    while (!is_new()) --last;
    ASSERT_GT(last, 0u);
    write("model/generation_config.json", Json{{"eos_token_id", {0, ids[last]}}}.dump());
    const Json stopped = generated();
    EXPECT_EQ(stopped["ids"].get<std::vector<int>>(),
              std::vector<int>(ids.begin(), ids.begin() + last + 1));
    EXPECT_EQ(stopped["finish"], "stop");

    const Process server = serve("model");
    const Json reply =
        complete(R"({"prompt":"line 7","max_tokens":12,"seed":5,"temperature":0.8})");
    EXPECT_EQ(reply["choices"][0]["finish_reason"], "stop");
    EXPECT_EQ(reply["choices"][0]["text"], stopped["text"]);
    EXPECT_EQ(reply["usage"]["completion_tokens"], last + 1);
    server.send(SIGTERM);
    EXPECT_EQ(server.wait().exit_code, 0);
}

TEST_F(Serve, TheKeyComesFromAFileOrTheEnvironment) {
    ASSERT_EQ(run(train("run", "bf16")).exit_code, 0);
    const auto opens = [&](const std::string& key, const std::vector<std::string>& flags) {
        const Process server = serve("run", flags);
        EXPECT_EQ(status_of(ask(get("/v1/models"))), 401);
        EXPECT_EQ(status_of(ask(get("/v1/models", "Authorization: Bearer " + key + "\r\n"))), 200);
        server.send(SIGTERM);
        EXPECT_EQ(server.wait().exit_code, 0);
    };
    write("key", "of-a-file\r\n");
    opens("of-a-file", {"--api-key-file", path("key")});
    setenv("OCTAVO_API_KEY", "of-the-environment", 1);
    opens("of-the-environment", {});
    opens("of-a-flag", {"--api-key", "of-a-flag"});

    const auto refused = [&](const std::vector<std::string>& flags, int exit_code,
                             const std::string& why) {
        std::vector<std::string> args{"serve", "--model", path("run"), "--port", "0"};
        args.insert(args.end(), flags.begin(), flags.end());
        const Finished ended = run(args);
        EXPECT_EQ(ended.exit_code, exit_code) << ended.text;
        EXPECT_NE(ended.text.find(why), std::string::npos) << ended.text;
    };
    setenv("OCTAVO_API_KEY", "", 1);
    refused({}, 1, "OCTAVO_API_KEY: expected a key of");
    unsetenv("OCTAVO_API_KEY");
    write("empty", "\n");
    refused({"--api-key-file", path("empty")}, 1, "without spaces, got none");
    refused({"--api-key-file", path("nothing")}, 1, "nothing");
    refused({"--api-key-file", path("key"), "--api-key", "k"}, 2, "got both");
    refused({"--api-key", "two words"}, 1, "--api-key: expected a key of");
}

TEST_F(Serve, ASecondSignalCutsWhatIsUnderWay) {
    ASSERT_EQ(run(train("run", "bf16")).exit_code, 0);
    const Process server = serve("run", {"--io-limit", "60"});
    // A body that is promised and never comes.
    Client client(port_);
    client.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{");
    usleep(100000);
    server.send(SIGTERM);
    ASSERT_TRUE(server.wait_for_text("stopping: "));
    usleep(200000);
    server.send(SIGTERM);
    const Finished ended = server.wait();
    EXPECT_EQ(ended.exit_code, 130) << ended.text;
    EXPECT_NE(ended.text.find("requests were cancelled"), std::string::npos);
}

TEST_F(Serve, SaysWhatItCannotServe) {
    EXPECT_EQ(run({"serve"}).exit_code, 2);
    EXPECT_EQ(run({"serve", "--model", path("nothing")}).exit_code, 1);
    const std::string fixture = std::string(OCTAVO_FIXTURES) + "/llama";
    const Finished no_tokenizer = run({"serve", "--model", fixture});
    EXPECT_EQ(no_tokenizer.exit_code, 2);
    EXPECT_NE(no_tokenizer.text.find("a server needs a tokenizer"), std::string::npos);
    EXPECT_EQ(run({"serve", "--model", fixture, "--port", "70000"}).exit_code, 2);

    ASSERT_EQ(run(train("run", "bf16")).exit_code, 0);
    const Process server = serve("run");
    const Finished second = run({"serve", "--model", path("run"), "--port", std::to_string(port_)});
    EXPECT_EQ(second.exit_code, 1);
    EXPECT_NE(second.text.find("cannot listen there"), std::string::npos) << second.text;
    server.send(SIGTERM);
    EXPECT_EQ(server.wait().exit_code, 0);
}

}  // namespace
}  // namespace octavo::test
