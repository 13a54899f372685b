// The program without its main: from words to an exit code.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "cli/verb.h"

namespace octavo {

// Calls the verb, or prints help. What goes wrong is printed to `errors` as
//
//     octavo: what was expected, what came
//       what to do about it
//
// Returns what the verb returned, 2 for usage errors, 1 for all other failures.
int run(const std::vector<std::string>& words, const std::vector<Verb>& verbs, std::FILE* errors);

}  // namespace octavo
