// What clients send to the HTTP server, over a connection: heads, bodies with a length or in
// chunks, several requests in a row. Whatever it is, the server answers with whole replies whose
// status says whose mistake it was, hands no handler more than the bounds allow, and serves the
// next client.
//
// Build with: src/base/error.cpp src/http/httplib/connection.cpp src/http/httplib/http.cpp
// Build with: -lfmt -lcpp-httplib -lssl -lcrypto -lpthread
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <set>
#include <string>
#include <string_view>

#include "fuzz.h"
#include "http/http.h"

namespace octavo {
namespace {

constexpr std::size_t kMostHead = 2048, kMostBody = 1024;
constexpr int kOwnStatus = 299;  // of handlers: no reply that the server gives by itself has it

HttpReply answer(const HttpRequest& request) {
    require(request.body.size() <= kMostBody, "bodies are bounded");
    require(request.path.size() <= kMostHead && request.match.size() <= kMostHead &&
                request.authorization.size() <= kMostHead,
            "heads are bounded");
    return {.status = kOwnStatus, .type = "text/plain", .body = "fine"};
}

HttpReply answer_in_pieces(const HttpRequest&) {
    return {.status = kOwnStatus, .type = "text/plain", .stream = [](const HttpSink& sink) {
                if (sink("one")) sink("two");
            }};
}

HttpServer& server() {
    using std::chrono::milliseconds;
    static HttpServer one({.max_head_bytes = kMostHead,
                           .max_body_bytes = kMostBody,
                           .read_limit = milliseconds(2000),
                           .write_limit = milliseconds(2000),
                           .idle_limit = milliseconds(2000)},
                          {{"GET", "/get", answer},
                           {"GET", "/of/*", answer},
                           {"POST", "/post", answer},
                           {"POST", "/pieces", answer_in_pieces}});
    return one;
}

// All that comes back for these bytes and the end of them.
std::string exchange(std::string_view sent) {
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(server().port()));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    require(client >= 0 && connect(client, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0,
            "the server takes connections");
    while (!sent.empty()) {
        const ssize_t n = send(client, sent.data(), sent.size(), MSG_NOSIGNAL);
        if (n <= 0) break;  // it has heard enough
        sent.remove_prefix(static_cast<std::size_t>(n));
    }
    shutdown(client, SHUT_WR);
    std::string got;
    char piece[4096];
    for (ssize_t n; (n = recv(client, piece, sizeof piece, 0)) > 0;) {
        got.append(piece, static_cast<std::size_t>(n));
    }
    // Not with a handshake of four, which would leave 28,000 addresses a minute in TIME_WAIT.
    const linger now{.l_onoff = 1, .l_linger = 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(client);
    return got;
}

// The first status line; the replies behind it are as long as their heads say, which needs a client
// of its own to tell.
void check_reply(std::string_view reply) {
    if (reply.empty()) return;  // of nothing but line breaks, or of half a request
    static const std::set<std::string_view> known = {"100", "299", "400", "404", "408", "411",
                                                     "413", "414", "415", "416", "417", "431"};
    require(reply.starts_with("HTTP/1.1 ") && reply.size() > 12, "a reply begins with its status");
    require(known.contains(reply.substr(9, 3)), "a status that the client can have caused");
    require(reply.find("\r\n\r\n") != reply.npos, "the head of a reply is whole");
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    check_reply(exchange({reinterpret_cast<const char*>(data), size}));
    // Only now and then: it doubles the time.
    static std::uint64_t count = 0;
    if (count++ % 64 == 0) {
        const std::string reply =
            exchange("GET /get HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        require(reply.starts_with("HTTP/1.1 299") && reply.ends_with("fine"),
                "the next client is served");
    }
    return 0;
}
