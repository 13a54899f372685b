// The HTTP server against clients that behave and clients that do not.
#include "http/http.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "client.h"

namespace octavo {
namespace {

using std::chrono::milliseconds;

class HttpTest : public testing::Test {
  protected:
    void SetUp() override {
        if (!http_library()) GTEST_SKIP() << "this build has no HTTP";
    }
    HttpServer& start(HttpOptions options = {}) {
        options.error_body = [](int status, const std::string& message) {
            return std::to_string(status) + ": " + message;
        };
        server_ = std::make_unique<HttpServer>(options, routes());
        return *server_;
    }
    std::vector<HttpRoute> routes() {
        return {
            {"GET", "/hello", [](const HttpRequest&) { return HttpReply{.body = "hi"}; }},
            {"GET", "/of/*", [](const HttpRequest& r) { return HttpReply{.body = r.match}; }},
            {"POST", "/echo", [](const HttpRequest& r) { return HttpReply{.body = r.body}; }},
            {"GET", "/throw",
             [](const HttpRequest&) -> HttpReply { throw std::runtime_error("secret"); }},
            {"GET", "/wait",
             [this](const HttpRequest& r) {
                 ++waiting_;
                 while (!r.gone() && !release_) usleep(1000);
                 if (r.gone()) ++gone_;
                 return HttpReply{.body = "waited"};
             }},
            {"GET", "/stream",
             [this](const HttpRequest& r) {
                 return HttpReply{.type = "text/event-stream",
                                  .stream = [this, gone = r.gone](const HttpSink& sink) {
                                      sink("one ");
                                      ++waiting_;
                                      while (!gone() && !release_) usleep(1000);
                                      if (gone()) ++gone_;
                                      sink("two");
                                  }};
             }},
            {"GET", "/flood",
             [this](const HttpRequest&) {
                 return HttpReply{.type = "text/event-stream",
                                  .stream = [this](const HttpSink& sink) {
                                      while (sink(std::string(1 << 16, 'x'))) {
                                      }
                                      ++gone_;
                                  }};
             }},
        };
    }
    int port() const { return server_->port(); }
    std::string ask(const std::string& text) const {
        Client client(port());
        EXPECT_TRUE(client.send(text));
        return client.read_all();
    }

    std::atomic<int> waiting_ = 0, gone_ = 0;
    std::atomic<bool> release_ = false;
    std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTest, KeepsAConnectionForManyRequests) {
    start();
    Client client(port());
    for (int i = 0; i < 20; ++i) {
        client.send(i % 2 == 0 ? get("/hello") : post("/echo", "body"));
        const std::string reply = client.read_reply();
        EXPECT_EQ(status_of(reply), 200);
        EXPECT_TRUE(reply.ends_with(i % 2 == 0 ? "\r\n\r\nhi" : "\r\n\r\nbody")) << reply;
    }
    // Two at once, and the second in pieces.
    client.send(get("/hello") + "GET /of/a%20b H");
    EXPECT_TRUE(client.read_reply().ends_with("\r\n\r\nhi"));
    client.send("TTP/1.1\r\n\r\n");
    EXPECT_TRUE(client.read_reply().ends_with("\r\n\r\na b"));
    for (const char* path : {"/of/a/b", "/of/a%2fb"}) {
        client.send(get(path));
        EXPECT_TRUE(client.read_reply().ends_with("\r\n\r\na/b"));
    }
    client.send(get("/hello", "Connection: close\r\n"));
    EXPECT_TRUE(client.read_all().ends_with("\r\n\r\nhi"));
}

TEST_F(HttpTest, ReadsBodiesInChunks) {
    start();
    const std::string head =
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n";
    EXPECT_TRUE(ask(head + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").ends_with("\r\n\r\nabcde"));
    EXPECT_EQ(status_of(ask(head + "zz\r\nabc\r\n")), 400);
}

// Where its end is not known, or is read in two ways, it must not become the next request.
TEST_F(HttpTest, NoBodyIsTakenForARequest) {
    start();
    const std::string hidden = get("/of/hidden");
    const std::string length = "Content-Length: " + std::to_string(hidden.size()) + "\r\n";
    const std::string chunked = "Transfer-Encoding: chunked\r\n";
    const std::string chunk = "24\r\n" + hidden + "\r\n0\r\n\r\n";
    ASSERT_EQ(hidden.size(), 0x24u);
    for (const std::string& request :
         {get("/hello", length) + hidden, get("/hello", chunked) + chunk,
          "HEAD" + get("/hello", length).substr(3) + hidden}) {
        const std::string reply = ask(request);
        EXPECT_EQ(status_of(reply), 200) << reply;
        EXPECT_EQ(reply.find("hidden"), std::string::npos) << request;
        EXPECT_NE(reply.find("Connection: close\r\n"), std::string::npos) << request;
    }
    for (const std::string& headers :
         {length + chunked, chunked + chunked, length + "Transfer-Encoding: gzip, chunked\r\n"}) {
        const std::string reply = ask("POST /echo HTTP/1.1\r\n" + headers + "\r\n" + hidden);
        EXPECT_EQ(status_of(reply), 400) << headers;
        EXPECT_EQ(reply.find("hidden"), std::string::npos) << headers;
    }
    // A length of 0 is no body.
    Client client(port());
    for (int i = 0; i < 2; ++i) {
        client.send(get("/hello", "Content-Length: 0\r\n"));
        EXPECT_TRUE(client.read_reply().ends_with("\r\n\r\nhi"));
    }
}

TEST_F(HttpTest, RefusesEncodedBodies) {
    start();
    const std::string close = "Connection: close\r\n";
    for (const char* encoding : {"gzip", "deflate", "br", "identity, gzip"}) {
        const std::string header = std::string("Content-Encoding: ") + encoding + "\r\n";
        const std::string reply = ask(post("/echo", "abc", header + close));
        EXPECT_EQ(status_of(reply), 415) << encoding;
        EXPECT_NE(reply.find("without Content-Encoding"), std::string::npos) << reply;
    }
    EXPECT_EQ(status_of(ask(post("/echo", "abc", "Content-Encoding: identity\r\n" + close))), 200);
}

TEST_F(HttpTest, SaysWhatIsWrongWithARequest) {
    HttpOptions options;
    options.max_body_bytes = 1000;
    options.max_head_bytes = 4000;
    options.read_limit = milliseconds(2000);
    start(options);
    const struct {
        std::string request;
        int status;
    } cases[] = {
        {get("/nothing"), 404},
        {post("/nothing", "a"), 404},
        {post("/hello", "a"), 404},
        {get("/echo"), 404},
        {get("/of/"), 404},
        {get("/of/" + std::string(257, 'a')), 404},
        {"nonsense\r\n\r\n", 400},
        {"GET /hello\r\n\r\n", 400},
        {"GET /hello HTTP/9\r\n\r\n", 400},
        {"BREW /hello HTTP/1.1\r\n\r\n", 400},
        {get("/hello", "A: " + std::string(5000, 'a') + "\r\n"), 431},
        {"POST /echo HTTP/1.1\r\n\r\n", 411},
        {"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
        {post("/echo", std::string(1001, 'a')), 413},
        {"POST /echo HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\nabc", 413},
        {"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
             std::string(2000, 'a') + "\r\n0\r\n\r\n",
         413},
        {"POST /echo HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=a\r\n"
         "Content-Length: 3\r\n\r\nabc",
         415},
    };
    for (const auto& [request, status] : cases) {
        const std::string reply = ask(request), shown = request.substr(0, 80);
        EXPECT_EQ(status_of(reply), status) << shown << " -> " << reply;
        EXPECT_NE(reply.find("\r\n\r\n" + std::to_string(status) + ": "), std::string::npos)
            << shown;
        EXPECT_NE(reply.find("Connection: close\r\n"), std::string::npos) << shown;
    }
    const std::string reply = ask(get("/throw"));
    EXPECT_EQ(status_of(reply), 500);
    EXPECT_EQ(reply.find("secret"), std::string::npos);
    EXPECT_EQ(status_of(ask(get("/hello", "Connection: close\r\n"))), 200);
}

TEST_F(HttpTest, AHeadWithoutEndIsNotRead) {
    HttpOptions options;
    options.max_head_bytes = 4000;
    start(options);
    Client client(port());
    const std::string line = "A: " + std::string(1000, 'a') + "\r\n";
    client.send("GET /hello HTTP/1.1\r\n");
    for (int i = 0; i < 1000 && client.send(line); ++i) {
    }
    EXPECT_EQ(status_of(client.read_all()), 431);
    Client no_line(port());
    for (int i = 0; i < 1000 && no_line.send(std::string(1000, 'G')); ++i) {
    }
    EXPECT_EQ(no_line.read_all(), "");
}

TEST_F(HttpTest, SlowClientsRunOutOfTime) {
    HttpOptions options;
    options.read_limit = milliseconds(300);
    options.idle_limit = milliseconds(300);
    start(options);
    // A byte now and then is not enough: the limit is for the whole request.
    Client head(port()), body(port()), silent(port());
    head.send("GET /hello HTTP/1.1\r\nA: ");
    body.send("POST /echo HTTP/1.1\r\nContent-Length: 100\r\n\r\n");
    for (int i = 0; i < 10; ++i) {
        usleep(50000);
        head.send("a");
        body.send("a");
    }
    EXPECT_EQ(status_of(head.read_all()), 408);
    EXPECT_EQ(status_of(body.read_all()), 408);
    EXPECT_EQ(silent.read_all(), "");
}

TEST_F(HttpTest, ClientsThatDoNotReadAreLeft) {
    HttpOptions options;
    options.write_limit = milliseconds(200);
    start(options);
    Client client(port());
    client.send(get("/flood"));
    EXPECT_TRUE(eventually([&] { return gone_ == 1; }));
}

TEST_F(HttpTest, NoticesThatAClientWent) {
    start();
    {
        Client waits(port()), streams(port());
        waits.send(get("/wait"));
        streams.send(get("/stream"));
        streams.read_until("one ");
        ASSERT_TRUE(eventually([&] { return waiting_ == 2; }));
    }
    EXPECT_TRUE(eventually([&] { return gone_ == 2; }));
}

TEST_F(HttpTest, NoticesThatAClientWentWithBytesUnread) {
    start();
    Client client(port());
    client.send(get("/wait"));
    ASSERT_TRUE(eventually([&] { return waiting_ == 1; }));
    client.send(get("/hello"));
    usleep(50000);
    EXPECT_EQ(gone_, 0);
    client.leave();
    EXPECT_TRUE(eventually([&] { return gone_ == 1; }));
}

TEST_F(HttpTest, StreamsPiecesAsTheyCome) {
    start();
    Client client(port());
    client.send(get("/stream", "Accept-Encoding: gzip, br\r\n"));
    const std::string begin = client.read_until("one ");
    EXPECT_NE(begin.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
    EXPECT_NE(begin.find("Content-Type: text/event-stream\r\n"), std::string::npos);
    release_ = true;
    EXPECT_EQ(client.read_until("0\r\n\r\n"), "\r\n3\r\ntwo\r\n0\r\n\r\n");
    client.send(get("/hello"));
    EXPECT_EQ(status_of(client.read_reply()), 200);
}

TEST_F(HttpTest, TooManyConnectionsAreTurnedAway) {
    HttpOptions options;
    options.max_connections = 2;
    start(options);
    Client first(port()), second(port());
    first.send(get("/wait"));
    second.send(get("/wait"));
    ASSERT_TRUE(eventually([&] { return waiting_ == 2; }));
    Client third(port());
    const std::string reply = third.read_all();
    EXPECT_EQ(status_of(reply), 503);
    EXPECT_NE(reply.find("Retry-After: 1\r\n"), std::string::npos);
    // Also who sends before it reads, and slowly.
    Client slow(port());
    for (const std::string piece :
         {"POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\n", "ab", "cd"}) {
        EXPECT_TRUE(slow.send(piece)) << piece;
        usleep(50000);
    }
    EXPECT_EQ(status_of(slow.read_all()), 503);
    release_ = true;
    EXPECT_EQ(status_of(first.read_reply()), 200);
    first.leave();
    EXPECT_TRUE(eventually([&] {
        Client again(port());
        again.send(get("/hello", "Connection: close\r\n"));
        return status_of(again.read_all()) == 200;
    }));
}

TEST_F(HttpTest, DrainsWhatIsUnderWay) {
    HttpServer& server = start();
    Client waits(port()), streams(port()), idle(port());
    waits.send(get("/wait"));
    streams.send(get("/stream"));
    idle.send(get("/hello"));
    idle.read_reply();
    ASSERT_TRUE(eventually([&] { return waiting_ == 2; }));
    server.drain();
    EXPECT_EQ(idle.read_all(), "");
    EXPECT_TRUE(eventually([&] { return !Client(port()).connected(); }));
    EXPECT_FALSE(server.wait_for_end(milliseconds(50)));
    release_ = true;
    EXPECT_TRUE(waits.read_all().ends_with("waited"));
    EXPECT_TRUE(streams.read_all().ends_with("two\r\n0\r\n\r\n"));
    EXPECT_TRUE(server.wait_for_end(milliseconds(10000)));
    EXPECT_EQ(gone_, 0);
}

TEST_F(HttpTest, CutsWhatDoesNotEnd) {
    HttpServer& server = start();
    Client waits(port()), floods(port());
    waits.send(get("/wait"));
    floods.send(get("/flood"));
    ASSERT_TRUE(eventually([&] { return waiting_ == 1; }));
    server.drain();
    server.cut();
    EXPECT_TRUE(server.wait_for_end(milliseconds(10000)));
    EXPECT_EQ(gone_, 2);
}

TEST_F(HttpTest, APortIsTakenOnce) {
    start();
    HttpOptions same;
    same.port = port();
    try {
        HttpServer second(same, {});
        FAIL() << "two servers at one port";
    } catch (const Error& error) {
        EXPECT_NE(error.message().find("cannot listen there"), std::string::npos);
        EXPECT_NE(error.hint().find("--port"), std::string::npos);
    }
    HttpOptions nowhere;
    nowhere.host = "nowhere.invalid";
    EXPECT_THROW(HttpServer(nowhere, {}), Error);
}

TEST_F(HttpTest, RandomBytesDoNoHarm) {
    HttpOptions options;
    options.read_limit = milliseconds(200);
    start(options);
    std::uint64_t state = 1;
    const std::string valid = post("/echo", "body", "A: b\r\nTransfer-Encoding: chunked\r\n");
    for (int i = 0; i < 300; ++i) {
        std::string text = valid;
        for (int changes = 0; changes <= i % 7; ++changes) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            text[(state >> 33) % text.size()] = static_cast<char>(state >> 24);
        }
        Client client(port());
        client.send(text);
    }
    EXPECT_EQ(status_of(ask(get("/hello", "Connection: close\r\n"))), 200);
}

}  // namespace
}  // namespace octavo
