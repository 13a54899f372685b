// The texts of --help, made from the verb table and the schema.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"

namespace octavo {

std::string program_help(const std::vector<Verb>& verbs);

// `path` is the verb as called: "octavo inspect plan".
std::string verb_help(const Verb& verb, const std::string& path);

}  // namespace octavo
