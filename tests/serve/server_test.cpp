// The protocol over real sockets.
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "client.h"
#include "fake_engine.h"
#include "serve/api.h"

namespace octavo {
namespace {

class ServerTest : public testing::Test {
  protected:
    void SetUp() override {
        if (!http_library()) GTEST_SKIP() << "this build has no HTTP";
    }
    void start(std::int64_t queue) {
        loop_ = std::make_unique<EngineLoop>(std::make_unique<FakeEngine>(control_), queue);
        api_ = std::make_unique<Api>(
            ServedModel{.name = "org/m", .tokenizer = std::make_shared<ByteTokenizer>()}, *loop_,
            ApiOptions{});
        HttpOptions options;
        options.error_body = http_error_body;
        server_ = std::make_unique<HttpServer>(options, api_->routes());
    }
    std::string ask(const std::string& body) const {
        Client client(server_->port());
        client.send(post("/v1/completions", body, "Connection: close\r\n"));
        return client.read_all();
    }

    FakeControl control_;
    std::unique_ptr<EngineLoop> loop_;
    std::unique_ptr<Api> api_;
    std::unique_ptr<HttpServer> server_;
};

TEST_F(ServerTest, AHundredClientsAndAQueueOfTwenty) {
    control_.hold_after = 0;
    start(20);
    std::atomic<int> served = 0, refused = 0;
    std::vector<std::thread> clients;
    for (int i = 0; i < 100; ++i) {
        clients.emplace_back([&, i] {
            const std::string reply =
                ask(i % 2 == 0 ? R"({"prompt":"a"})" : R"({"prompt":"a","stream":true})");
            if (status_of(reply) == 429) {
                EXPECT_NE(reply.find("Retry-After: 1\r\n"), std::string::npos);
                ++refused;
            } else if (status_of(reply) == 200) {
                EXPECT_TRUE(reply.find("hello") != reply.npos ||
                            reply.ends_with("[DONE]\n\n\r\n0\r\n\r\n"))
                    << reply;
                ++served;
            } else {
                ADD_FAILURE() << reply;
            }
        });
    }
    EXPECT_TRUE(eventually([&] { return refused == 80; }));
    EXPECT_EQ(loop_->stats().running + loop_->stats().waiting, 20);
    control_.hold_after = -1;
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(served, 20);
    EXPECT_EQ(refused, 80);
    EXPECT_EQ(status_of(ask(R"({"prompt":"a"})")), 200);
}

TEST_F(ServerTest, AVanishedClientFreesItsPlace) {
    control_.hold_after = 2;
    start(2);
    {
        Client stream(server_->port()), whole(server_->port());
        stream.send(post("/v1/completions", R"({"prompt":"a","stream":true})"));
        stream.read_until("data: ");
        whole.send(post("/v1/completions", R"({"prompt":"a"})"));
        ASSERT_TRUE(eventually([&] { return control_.submitted == 2; }));
        EXPECT_EQ(status_of(ask(R"({"prompt":"a"})")), 429);
    }
    EXPECT_TRUE(eventually([&] { return control_.cancelled == 2; }));
    control_.hold_after = -1;
    EXPECT_TRUE(eventually([&] { return status_of(ask(R"({"prompt":"a"})")) == 200; }));
}

TEST_F(ServerTest, NamesMayHaveSlashes) {
    start(2);
    for (const auto& [name, status] :
         {std::pair("org/m", 200), {"org%2Fm", 200}, {"m", 404}, {"org/m/x", 404}}) {
        Client client(server_->port());
        client.send(get(std::string("/v1/models/") + name));
        EXPECT_EQ(status_of(client.read_reply()), status) << name;
    }
}

TEST_F(ServerTest, ErrorsAreObjects) {
    start(2);
    for (const std::string& reply : {ask("{"), ask(R"({"prompt":"a","n":"x"})"), [&] {
                                         Client client(server_->port());
                                         client.send(get("/v2"));
                                         return client.read_all();
                                     }()}) {
        const auto body = reply.find("\r\n\r\n");
        ASSERT_NE(body, reply.npos);
        const auto error = nlohmann::json::parse(reply.substr(body + 4))["error"];
        EXPECT_FALSE(error["message"].get<std::string>().empty());
        EXPECT_EQ(error["type"], "invalid_request_error");
        EXPECT_TRUE(error.contains("param") && error.contains("code"));
    }
}

TEST_F(ServerTest, RequestsUnderWayEndBeforeTheServer) {
    control_.hold_after = 3;
    start(2);
    Client client(server_->port());
    client.send(post("/v1/completions", R"({"prompt":"a","stream":true})"));
    client.read_until("data: ");
    server_->drain();
    control_.hold_after = -1;
    EXPECT_NE(client.read_all().find("[DONE]"), std::string::npos);
    EXPECT_TRUE(server_->wait_for_end(std::chrono::milliseconds(10000)));
}

}  // namespace
}  // namespace octavo
