// What a client did wrong, or cannot have now, in the form of OpenAI's API.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace octavo {

struct ApiError : std::runtime_error {
    ApiError(int http_status, std::string text, std::string field = {}, std::string code_name = {})
        : std::runtime_error(std::move(text)),
          status(http_status),
          param(std::move(field)),
          code(std::move(code_name)) {}

    int status;
    std::string param;  // the field of the request; may be empty
    std::string code;   // such as "context_length_exceeded"; may be empty
};

// A field of the request that cannot be what it is: status 400.
template <class... Args>
[[noreturn]] void refuse(std::string field, fmt::format_string<Args...> text, Args&&... args) {
    std::string message =
        fmt::format("'{}': {}", field, fmt::format(text, std::forward<Args>(args)...));
    throw ApiError(400, std::move(message), std::move(field));
}

}  // namespace octavo
