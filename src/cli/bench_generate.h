// octavo bench generate: prompts and decoding of a batch, against what memory and products can do.
#pragma once

#include "cli/verb.h"

namespace octavo {

Verb bench_generate_verb();

}  // namespace octavo
