// The one exception of Octavo, and `check`, the one way to throw it.
//
// A message says where, what was expected and what came; the hint says what to do:
//
//     matmul 'layers.3.mlp.down_proj': K of both operands must agree, got 1024 and 1000.
//       Check intermediate_size in config.json.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace octavo {

// Whose turn it is to act decides the exit code: a `usage` error (config, flags) exits with 2,
// everything else with 1.
enum class ErrorKind { failure, usage };

class Error : public std::runtime_error {
  public:
    explicit Error(std::string message, std::string hint = {}, ErrorKind kind = ErrorKind::failure);

    const std::string& message() const { return message_; }
    const std::string& hint() const { return hint_; }
    ErrorKind kind() const { return kind_; }

    // The same error with `where: ` before the message, for callers that know the file or layer.
    Error in(const std::string& where) const;

  private:
    std::string message_, hint_;
    ErrorKind kind_;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
    throw Error(fmt::format(text, std::forward<Args>(args)...));
}

// Config and command-line mistakes.
template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> text, Args&&... args) {
    throw Error(fmt::format(text, std::forward<Args>(args)...), {}, ErrorKind::usage);
}

// A line break in `text` separates the message from the hint.
template <class... Args>
void check(bool condition, fmt::format_string<Args...> text, Args&&... args) {
    if (!condition) [[unlikely]] {
        throw Error(fmt::format(text, std::forward<Args>(args)...));
    }
}

}  // namespace octavo
