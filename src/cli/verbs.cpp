#include "cli/verbs.h"

namespace octavo {

std::vector<Verb> all_verbs() {
    return {train_verb(),   generate_verb(), serve_verb(), eval_verb(),   tokenize_verb(),
            inspect_verb(), convert_verb(),  bench_verb(), report_verb(), doctor_verb()};
}

}  // namespace octavo
