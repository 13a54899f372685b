#include "base/error.h"

namespace octavo {
namespace {

std::string join(const std::string& message, const std::string& hint) {
    return hint.empty() ? message : message + "\n  " + hint;
}

}  // namespace

Error::Error(std::string message, std::string hint, ErrorKind kind)
    : std::runtime_error(join(message, hint)), kind_(kind) {
    // `check` and `fail` pass one text; its first line break splits message from hint.
    if (const auto split = message.find('\n'); hint.empty() && split != std::string::npos) {
        hint = message.substr(split + 1);
        hint.erase(0, hint.find_first_not_of(' '));
        message.resize(split);
        static_cast<std::runtime_error&>(*this) = std::runtime_error(join(message, hint));
    }
    message_ = std::move(message);
    hint_ = std::move(hint);
}

Error Error::in(const std::string& where) const {
    return Error(where + ": " + message_, hint_, kind_);
}

}  // namespace octavo
