// A client's connection as a stream for cpp-httplib, which by itself would read headers without end
// and wait for every single byte anew.
#pragma once

#include <httplib.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>

#include "http/http.h"

namespace octavo {

class Connection final : public httplib::Stream {
  public:
    // Takes a socket that does not block; `wake` becomes readable for good when the server drains,
    // `cut` true when it wants to end.
    Connection(int socket, int wake, const std::atomic<bool>& cut, const HttpOptions& options);
    ~Connection() override;
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // Waits for the first byte of a request. False: the client went, was idle for too long, or the
    // server drains.
    bool next_request();
    void expect_body(bool encoded);  // the head is complete, and names a Content-Encoding or not
    bool encoded() const { return encoded_; }
    bool gone() const;  // closed by the client, or to be cut
    // Why `read` failed, as an HTTP status: 408 too slow, 431 the head too large, 0 neither.
    int trouble() const { return trouble_; }
    void close_after_reply() { closes_ = true; }
    bool closes() const { return closes_; }
    // Lets the client read the last reply even if it has sent more than was read: closing with
    // unread bytes would discard the reply on its way.
    void linger();

    bool is_readable() const override { return !gone(); }
    bool is_writable() const override { return !gone(); }
    ssize_t read(char* data, std::size_t size) override;
    ssize_t write(const char* data, std::size_t size) override;
    void get_remote_ip_and_port(std::string&, int&) const override {}
    void get_local_ip_and_port(std::string&, int&) const override {}
    int socket() const override { return socket_; }

  private:
    using Clock = std::chrono::steady_clock;

    int socket_, wake_;
    const std::atomic<bool>& cut_;
    const HttpOptions& options_;
    Clock::time_point deadline_{};  // of the request that is being read
    std::size_t budget_ = 0;        // bytes that may still be read of it
    int trouble_ = 0;
    bool encoded_ = false, closes_ = false;
    std::array<char, 8192> buffer_;
    std::size_t at_ = 0, end_ = 0;  // what of the buffer is there
};

}  // namespace octavo
