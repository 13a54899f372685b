#include "cli/run.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <new>

#include "base/error.h"
#include "cli/command_line.h"
#include "cli/console.h"

namespace octavo {
namespace {

void print_error(std::FILE* errors, const std::string& message, const std::string& hint) {
    const bool color = use_color(errors);
    fmt::print(errors, "{}octavo:{} {}\n", color ? "\033[1;31m" : "", color ? "\033[0m" : "",
               message);
    if (!hint.empty()) {
        fmt::print(errors, "  {}\n", hint);
    }
}

int call(const std::vector<std::string>& words, const std::vector<Verb>& verbs) {
    const Invocation invocation = parse_command_line(words, verbs);
    int code = 0;
    if (invocation.verb) {
        code = invocation.verb->run(invocation.args);
    } else {
        fmt::print("{}", invocation.text);
    }
    // Output that did not arrive is a failure: `octavo generate > file` on a full disk.
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
        fail("standard output: cannot write: {}", std::strerror(errno));
    }
    return code;
}

}  // namespace

int run(const std::vector<std::string>& words, const std::vector<Verb>& verbs, std::FILE* errors) {
    try {
        return call(words, verbs);
    } catch (const Error& error) {
        print_error(errors, error.message(), error.hint());
        return error.kind() == ErrorKind::usage ? 2 : 1;
    } catch (const std::bad_alloc&) {
        print_error(errors, "out of memory",
                    "lower train.batch or train.seq, or set runtime.recompute; octavo inspect "
                    "memory says what a run needs");
    } catch (const std::exception& error) {
        print_error(errors, error.what(), "");
    }
    return 1;
}

}  // namespace octavo
