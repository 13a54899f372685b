// An HTTP/1.1 server for a few routes, with bounds on all that a client can make it hold: headers,
// body, time and connections. No TLS, no CORS: a proxy in front can do both.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace octavo {

struct HttpRequest {
    std::string method, path;
    std::string body;
    std::string authorization;  // the header's value
    std::string match;          // what stands for "*" in the route's path
    // The client has closed the connection, or the server wants to end: nobody waits for the reply.
    std::function<bool()> gone;
};

// Returns false when the client no longer takes anything.
using HttpSink = std::function<bool(std::string_view)>;

struct HttpReply {
    int status = 200;
    std::string type = "application/json";
    std::string body = {};
    std::map<std::string, std::string> headers = {};
    // Instead of a body: writes it in pieces, which arrive as they are written.
    std::function<void(const HttpSink&)> stream = {};
};

struct HttpRoute {
    std::string method;  // "GET" or "POST"
    std::string path;    // "/v1/models", or "/v1/models/*" for all behind that
    // Called by a thread of the connection's own, many at a time. Must not throw.
    std::function<HttpReply(const HttpRequest&)> handler;
};

struct HttpOptions {
    std::string host = "127.0.0.1";
    int port = 0;  // 0: any free one
    std::size_t max_connections = 512;
    std::size_t max_head_bytes = 32 << 10;  // request line and headers
    std::size_t max_body_bytes = 4 << 20;
    std::chrono::milliseconds read_limit{30000};   // for a whole request, from its first byte
    std::chrono::milliseconds write_limit{30000};  // without a byte taken by the client
    std::chrono::milliseconds idle_limit{60000};   // between requests
    // The body of a reply that the server gives by itself: 400, 404, 408, 411, 413, ...
    std::function<std::string(int status, const std::string& message)> error_body = {};
};

class HttpServer {
  public:
    // Listens at once. Throws Error if the address cannot be had, or the build has no HTTP.
    HttpServer(HttpOptions options, std::vector<HttpRoute> routes);
    // Cuts what is still open.
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    int port() const;
    // Accepts nobody any more and closes idle connections; requests under way go on.
    void drain();
    // Whether all connections have ended within that time.
    bool wait_for_end(std::chrono::milliseconds) const;
    // From now on everybody is `gone`.
    void cut();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// "cpp-httplib 0.11.4"; nothing if this build has no HTTP.
std::optional<std::string> http_library();

}  // namespace octavo
