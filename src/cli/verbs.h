// The verbs of the program.
#pragma once

#include <vector>

#include "cli/verb.h"

namespace octavo {

// Each in the file of its name.
Verb doctor_verb();

// In the order in which --help lists them.
std::vector<Verb> all_verbs();

}  // namespace octavo
