// From the words of a command line to a verb and its arguments.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"

namespace octavo {

struct Invocation {
    const Verb* verb;  // nullptr: print `text` instead (--help, --version)
    Args args;
    std::string text;
};

// `words` without the program's name. Throws a usage Error for what no verb of the table takes,
// with the nearest name, and for values that break their rule.
Invocation parse_command_line(const std::vector<std::string>& words,
                              const std::vector<Verb>& verbs);

}  // namespace octavo
