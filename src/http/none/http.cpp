// In place of the HTTP server where cpp-httplib is missing.
#include "http/http.h"
#include "base/error.h"

namespace octavo {

struct HttpServer::Impl {};

HttpServer::HttpServer(HttpOptions, std::vector<HttpRoute>) {
    fail(
        "this build has no HTTP server: cpp-httplib was not there\n  Install libcpp-httplib-dev "
        "(scripts/setup.sh) and build again.");
}
HttpServer::~HttpServer() = default;
int HttpServer::port() const { return 0; }
void HttpServer::drain() {}
bool HttpServer::wait_for_end(std::chrono::milliseconds) const { return true; }
void HttpServer::cut() {}

std::optional<std::string> http_library() { return std::nullopt; }

}  // namespace octavo
