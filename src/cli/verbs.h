// The verbs of the program.
#pragma once

#include <vector>

#include "cli/verb.h"

namespace octavo {

// Each in the file of its name.
Verb train_verb();
Verb eval_verb();
Verb generate_verb();
Verb serve_verb();
Verb tokenize_verb();
Verb inspect_verb();
Verb convert_verb();
Verb bench_verb();
Verb report_verb();
Verb doctor_verb();

// In the order in which --help lists them.
std::vector<Verb> all_verbs();

}  // namespace octavo
