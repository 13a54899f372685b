#include "http/httplib/connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace octavo {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLinger{1000};
constexpr milliseconds kCutCheck{100};  // how often who waits looks whether it is to end

int wait_for(int socket, short events, milliseconds time) {
    pollfd one{.fd = socket, .events = events, .revents = 0};
    return poll(&one, 1, static_cast<int>(std::max<std::int64_t>(time.count(), 0)));
}

}  // namespace

Connection::Connection(int socket, int wake, const std::atomic<bool>& cut,
                       const HttpOptions& options)
    : socket_(socket), wake_(wake), cut_(cut), options_(options) {}

Connection::~Connection() { close(socket_); }

bool Connection::next_request() {
    if (at_ == end_) {
        pollfd both[] = {{.fd = socket_, .events = POLLIN, .revents = 0},
                         {.fd = wake_, .events = POLLIN, .revents = 0}};
        const int ready = poll(both, 2, static_cast<int>(options_.idle_limit.count()));
        if (ready <= 0 || both[0].revents == 0) return false;
    }
    deadline_ = Clock::now() + options_.read_limit;
    budget_ = options_.max_head_bytes;
    trouble_ = 0;
    return true;
}

void Connection::expect_body(bool encoded) {
    encoded_ = encoded;
    // Chunks bring lines of their own, at worst as many bytes again as there are in the body.
    budget_ = 2 * options_.max_body_bytes + options_.max_head_bytes;
}

bool Connection::gone() const {
    // Not by reading: bytes of a next request may stand before the end.
    return cut_ || wait_for(socket_, POLLRDHUP, milliseconds(0)) > 0;
}

ssize_t Connection::read(char* data, std::size_t size) {
    if (budget_ == 0) {
        if (trouble_ == 0) trouble_ = 431;
        return -1;
    }
    while (at_ == end_) {
        const auto left = std::chrono::ceil<milliseconds>(deadline_ - Clock::now());
        if (cut_) return -1;
        if (left.count() <= 0) {
            trouble_ = 408;
            return -1;
        }
        if (wait_for(socket_, POLLIN, std::min(left, kCutCheck)) == 0) continue;
        const ssize_t n = recv(socket_, buffer_.data(), buffer_.size(), 0);
        if (n == 0) return 0;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return -1;
        at_ = 0;
        end_ = n > 0 ? static_cast<std::size_t>(n) : 0;
    }
    const std::size_t n = std::min({size, end_ - at_, budget_});
    std::memcpy(data, buffer_.data() + at_, n);
    at_ += n;
    budget_ -= n;
    return static_cast<ssize_t>(n);
}

ssize_t Connection::write(const char* data, std::size_t size) {
    const auto limit = Clock::now() + options_.write_limit;
    while (!cut_ && Clock::now() < limit) {
        const ssize_t n = send(socket_, data, size, MSG_NOSIGNAL);
        if (n >= 0) return n;
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return -1;
        wait_for(socket_, POLLOUT, kCutCheck);
    }
    return -1;
}

void Connection::linger() {
    shutdown(socket_, SHUT_WR);
    const auto limit = Clock::now() + kLinger;
    while (!cut_ && Clock::now() < limit) {
        if (wait_for(socket_, POLLIN, kCutCheck) == 0) continue;
        if (recv(socket_, buffer_.data(), buffer_.size(), 0) <= 0) return;
    }
}

}  // namespace octavo
