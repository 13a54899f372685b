// octavo bench op: single ops on their own, against what memory can do.
#pragma once

#include "cli/verb.h"

namespace octavo {

Verb bench_op_verb();

}  // namespace octavo
