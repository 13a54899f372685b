// octavo bench load: the weights of a Hugging Face folder on their way into the device's memory.
#pragma once

#include "cli/verb.h"

namespace octavo {

Verb bench_load_verb();

}  // namespace octavo
