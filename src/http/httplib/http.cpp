// HttpServer over cpp-httplib, of which it uses what reads requests and writes replies. Accepting,
// limits and the end are Octavo's own (connection.h): version 0.11 has no bounds for headers, for
// the time of a request or for waiting connections, and cuts replies as soon as it stops.
#include "http/http.h"

#include <fmt/core.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "http/httplib/connection.h"

namespace octavo {
namespace {

constexpr int kBacklog = 512;
constexpr std::size_t kMostLeaving = 64;
constexpr std::chrono::milliseconds kLinger{1000}, kLeavingCheck{100};
constexpr std::string_view kFull =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
    "Connection: close\r\n\r\n";

// The library does not hand the stream to handlers; a connection has a thread to itself.
thread_local Connection* t_connection = nullptr;

const char* message_of(int status) {
    switch (status) {
        case 404:
            return "there is nothing at this path for this method";
        case 408:
            return "the request did not arrive in time";
        case 411:
            return "expected a body with a Content-Length";
        case 413:
            return "the body is too large";
        case 414:
            return "the address is too long";
        case 415:
            return "expected a body of the type application/json, without Content-Encoding";
        case 431:
            return "the headers are too large";
        default:
            return status < 500 ? "expected an HTTP/1.1 request" : "the server failed";
    }
}

// As RFC 9112 tells; only the bodies of POST are read.
bool has_body(const httplib::Request& request) {
    const std::string length = request.get_header_value("Content-Length");
    return request.has_header("Transfer-Encoding") || (!length.empty() && length != "0");
}

// Whether it was encoded after it was made, which "identity" denies.
bool has_encoding(const httplib::Request& request) {
    return request.get_header_value_count("Content-Encoding") > 1 ||
           (request.has_header("Content-Encoding") &&
            request.get_header_value("Content-Encoding") != "identity");
}

bool is_count(const std::string& text) {
    return !text.empty() && text.size() < 19 &&
           text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

struct HttpServer::Impl : httplib::Server {
    Impl(HttpOptions given, std::vector<HttpRoute> routes)
        : options(std::move(given)), wake(eventfd(0, EFD_CLOEXEC)) {
        check(wake >= 0, "http: no event descriptor: {}", std::strerror(errno));
        for (HttpRoute& route : routes) add(std::move(route));
        set_error_handler([this](const httplib::Request&, httplib::Response& reply) {
            if (t_connection->trouble() != 0) reply.status = t_connection->trouble();
            if (reply.body.empty()) set_error(reply, reply.status);
        });
        set_exception_handler([this](const httplib::Request&, httplib::Response& reply,
                                     std::exception_ptr) { set_error(reply, 500); });
        // After an error the rest of the request may still be unread, and where no body belongs
        // none is read: the next request would begin with it.
        set_post_routing_handler([this](const httplib::Request& request, httplib::Response& reply) {
            const bool unread = request.method != "POST" && has_body(request);
            if (reply.status >= 400 || draining || unread) {
                reply.headers.erase("Keep-Alive");
                reply.headers.erase("Connection");
                reply.set_header("Connection", "close");
                t_connection->close_after_reply();
            }
        });
        set_keep_alive_timeout(options.idle_limit.count() / 1000);
        set_keep_alive_max_count(1000);
        // Not the library's SO_REUSEPORT, with which a second server would share the port
        // unnoticed.
        set_socket_options([](int socket) {
            const int yes = 1;
            setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        });
        port = options.port;
        const bool bound = port == 0 ? (port = bind_to_any_port(options.host)) > 0
                                     : bind_to_port(options.host, port);
        if (!bound) {
            const std::string why = std::strerror(errno);
            close(wake);
            fail(
                "{}:{}: cannot listen there: {}\n  Is another server running? Choose another "
                "--port.",
                options.host, options.port, why);
        }
        ::listen(svr_sock_, kBacklog);
        acceptor = std::thread([this] { accept_all(); });
    }

    ~Impl() override {
        drain();
        cut = true;
        acceptor.join();
        for (Worker& worker : workers) worker.thread.join();
        close(svr_sock_.exchange(-1));
        close(wake);
    }

    // Turned away, but perhaps still sending: a client whose sending fails may not read the reply.
    struct Leaving {
        int socket;
        std::chrono::steady_clock::time_point until;
    };

    struct Worker {
        std::thread thread;
        std::atomic<bool> done = false;
    };

    void set_error(httplib::Response& reply, int status) const {
        reply.status = status;
        const std::string message = message_of(status);
        reply.set_content(options.error_body ? options.error_body(status, message) : message,
                          options.error_body ? "application/json" : "text/plain");
    }

    void add(HttpRoute route) {
        std::string pattern = route.path;
        if (pattern.ends_with('*')) pattern.replace(pattern.size() - 1, 1, "(.{1,256})");
        const auto answer = [this, handler = std::move(route.handler)](const httplib::Request& from,
                                                                       httplib::Response& to,
                                                                       std::string body) {
            HttpRequest request{.method = from.method,
                                .path = from.path,
                                .body = std::move(body),
                                .authorization = from.get_header_value("Authorization"),
                                .match = from.matches.size() > 1 ? from.matches[1].str() : "",
                                .gone = [connection = t_connection] { return connection->gone(); }};
            write(handler(request), to);
        };
        if (route.method == "GET") {
            Get(pattern, [answer](const httplib::Request& from, httplib::Response& to) {
                answer(from, to, "");
            });
            return;
        }
        Post(pattern, [this, answer](const httplib::Request& from, httplib::Response& to,
                                     const httplib::ContentReader& reader) {
            std::string body;
            const int status = read_body(from, reader, body);
            if (status != 0) return set_error(to, status);
            answer(from, to, std::move(body));
        });
    }

    // Returns 0, or the status of what is wrong.
    int read_body(const httplib::Request& from, const httplib::ContentReader& reader,
                  std::string& body) const {
        const bool chunked = from.has_header("Transfer-Encoding");
        const std::string length = from.get_header_value("Content-Length");
        if (from.is_multipart_form_data() || t_connection->encoded()) return 415;
        // Both, or codings under the chunks: a proxy may see the end elsewhere (RFC 9112, 6.3).
        if (chunked &&
            (!length.empty() || from.get_header_value_count("Transfer-Encoding") > 1 ||
             strcasecmp(from.get_header_value("Transfer-Encoding").c_str(), "chunked") != 0))
            return 400;
        if (!chunked && length.empty()) return 411;
        if (!chunked && (!is_count(length) || from.get_header_value_count("Content-Length") > 1))
            return 400;
        if (!chunked && std::stoull(length) > options.max_body_bytes) return 413;
        bool fits = true;
        const bool complete = reader([&](const char* data, std::size_t n) {
            fits = body.size() + n <= options.max_body_bytes;
            if (fits) body.append(data, n);
            return fits;
        });
        if (!fits) return 413;
        if (complete) return 0;
        return t_connection->trouble() == 431 ? 413 : t_connection->trouble() == 408 ? 408 : 400;
    }

    static void write(HttpReply reply, httplib::Response& to) {
        to.status = reply.status;
        for (const auto& [name, value] : reply.headers) to.set_header(name, value);
        if (!reply.stream) return to.set_content(reply.body, reply.type);
        // All in one call: between calls the library looks whether it stops, and cuts.
        to.set_chunked_content_provider(
            reply.type, [stream = std::move(reply.stream)](std::size_t, httplib::DataSink& sink) {
                stream([&](std::string_view piece) {
                    return piece.empty() || sink.write(piece.data(), piece.size());
                });
                sink.done();
                return true;
            });
    }

    void serve(int socket) {
        Connection connection(socket, wake, cut, options);
        t_connection = &connection;
        bool keep = true;
        while (keep && connection.next_request()) {
            bool closed = false;
            const auto head_read = [&](httplib::Request& request) {
                connection.expect_body(has_encoding(request));
                // Ranges and compression are of no use here, and what a body inflates to has no
                // bound.
                request.ranges.clear();
                request.headers.erase("Accept-Encoding");
                request.headers.erase("Content-Encoding");
            };
            keep = process_request(connection, draining, closed, head_read) && !closed &&
                   !connection.closes();
        }
        connection.linger();
        t_connection = nullptr;
    }

    void accept_all() {
        while (!draining) {
            std::vector<pollfd> all = {{.fd = svr_sock_, .events = POLLIN, .revents = 0},
                                       {.fd = wake, .events = POLLIN, .revents = 0}};
            for (const Leaving& one : leaving) {
                all.push_back({.fd = one.socket, .events = POLLIN, .revents = 0});
            }
            poll(all.data(), all.size(),
                 leaving.empty() ? -1 : static_cast<int>(kLeavingCheck.count()));
            let_leave();
            if (draining) break;
            if (all[0].revents == 0) continue;
            const int socket = accept4(svr_sock_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (socket < 0) {
                if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(10));
                }
                continue;
            }
            start(socket);
        }
        for (const Leaving& one : leaving) close(one.socket);
        shutdown(svr_sock_, SHUT_RDWR);
    }

    void turn_away(int socket) {
        send(socket, kFull.data(), kFull.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        shutdown(socket, SHUT_WR);
        if (leaving.size() == kMostLeaving) {
            close(leaving.front().socket);
            leaving.erase(leaving.begin());
        }
        leaving.push_back({socket, std::chrono::steady_clock::now() + kLinger});
    }

    void let_leave() {
        std::erase_if(leaving, [](const Leaving& one) {
            char rest[4096];
            const ssize_t n = recv(one.socket, rest, sizeof rest, 0);
            const bool stays = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
            if (stays && std::chrono::steady_clock::now() < one.until) return false;
            close(one.socket);
            return true;
        });
    }

    void start(int socket) {
        std::erase_if(workers, [](Worker& worker) {
            const bool over = worker.done;  // once: a thread that ends now is joined next time
            if (over) worker.thread.join();
            return over;
        });
        if (workers.size() >= options.max_connections) {
            turn_away(socket);
            return;
        }
        const int yes = 1;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        count_open(1);
        Worker& worker = workers.emplace_back();
        try {
            worker.thread = std::thread([this, socket, &worker] {
                serve(socket);
                count_open(-1);
                worker.done = true;
            });
        } catch (const std::system_error&) {  // no thread to be had
            workers.pop_back();
            count_open(-1);
            close(socket);
        }
    }

    void count_open(int change) {
        const std::lock_guard lock(mutex);
        open += change;
        ended.notify_all();
    }

    void drain() {
        draining = true;
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t n = ::write(wake, &one, sizeof one);
    }

    HttpOptions options;
    int port = 0, wake;
    std::atomic<bool> draining = false, cut = false;
    std::thread acceptor;
    std::list<Worker> workers;     // the acceptor's, until it has ended
    std::vector<Leaving> leaving;  // the acceptor's
    mutable std::mutex mutex;
    mutable std::condition_variable ended;
    int open = 0;
};

HttpServer::HttpServer(HttpOptions options, std::vector<HttpRoute> routes)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(routes))) {}
HttpServer::~HttpServer() = default;

int HttpServer::port() const { return impl_->port; }
void HttpServer::drain() { impl_->drain(); }
void HttpServer::cut() { impl_->cut = true; }

bool HttpServer::wait_for_end(std::chrono::milliseconds time) const {
    std::unique_lock lock(impl_->mutex);
    return impl_->ended.wait_for(lock, time, [&] { return impl_->open == 0; });
}

std::optional<std::string> http_library() { return "cpp-httplib " CPPHTTPLIB_VERSION; }

}  // namespace octavo
