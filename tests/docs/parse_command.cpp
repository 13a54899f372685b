// Whether a command line of octavo is one: verb, flags, their values, operands and keys of the
// config are checked as the program does, and nothing is run.
#include <fmt/core.h>

#include "base/error.h"
#include "cli/command_line.h"
#include "cli/verbs.h"

int main(int argc, char** argv) {
    try {
        const auto verbs = octavo::all_verbs();
        const auto call = octavo::parse_command_line({argv + 1, argv + argc}, verbs);
        octavo::check(call.verb != nullptr, "expected a verb that does something");
        return 0;
    } catch (const octavo::Error& error) {
        fmt::print(stderr, "{}\n", error.what());
        return 2;
    }
}
