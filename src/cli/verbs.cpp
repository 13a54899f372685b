#include "cli/verbs.h"

namespace octavo {

std::vector<Verb> all_verbs() { return {doctor_verb()}; }

}  // namespace octavo
