// A client on a bare socket, so that tests can misbehave.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>

namespace octavo {

class Client {
  public:
    explicit Client(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected_ = connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    }
    ~Client() { leave(); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    bool connected() const { return connected_; }
    void leave() {
        if (socket_ >= 0) close(socket_);
        socket_ = -1;
    }
    bool send(const std::string& text) const {
        return ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(text.size());
    }
    // Reads until `end` is among what came, or the server closes. Fails after ten seconds.
    std::string read_until(const std::string& end) {
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (text_.find(end) == std::string::npos) {
            pollfd one{.fd = socket_, .events = POLLIN, .revents = 0};
            if (std::chrono::steady_clock::now() > limit) {
                ADD_FAILURE() << "waiting for '" << end << "', got '" << text_ << "'";
                break;
            }
            if (poll(&one, 1, 100) == 0) continue;
            char buffer[4096];
            const ssize_t n = recv(socket_, buffer, sizeof buffer, 0);
            if (n <= 0) break;
            text_.append(buffer, static_cast<std::size_t>(n));
        }
        const auto at = text_.find(end);
        const std::string read = text_.substr(0, at == text_.npos ? at : at + end.size());
        text_.erase(0, read.size());
        return read;
    }
    // All until the server closes.
    std::string read_all() { return read_until("\x01 never \x01"); }
    // Of one reply with a Content-Length: head and body.
    std::string read_reply() {
        std::string head = read_until("\r\n\r\n");
        const auto at = head.find("Content-Length: ");
        std::size_t length = at == head.npos ? 0 : std::stoul(head.substr(at + 16));
        while (text_.size() < length) {
            const std::size_t before = text_.size();
            const std::string all = text_;
            char buffer[4096];
            const ssize_t n = recv(socket_, buffer, sizeof buffer, 0);
            if (n <= 0) break;
            text_.append(buffer, static_cast<std::size_t>(n));
            EXPECT_GT(text_.size(), before);
        }
        head += text_.substr(0, length);
        text_.erase(0, length);
        return head;
    }

  private:
    int socket_;
    bool connected_ = false;
    std::string text_;
};

inline std::string post(const std::string& path, const std::string& body,
                        const std::string& headers = "") {
    return "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
inline std::string get(const std::string& path, const std::string& headers = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + headers + "\r\n";
}
inline int status_of(const std::string& reply) {
    return reply.starts_with("HTTP/1.1 ") ? std::stoi(reply.substr(9, 3)) : 0;
}
// Polls for up to ten seconds.
template <class Condition>
bool eventually(Condition condition) {
    for (int i = 0; i < 1000; ++i) {
        if (condition()) return true;
        usleep(10000);
    }
    return false;
}

}  // namespace octavo
