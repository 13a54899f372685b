// octavo inspect tokens: what is in token files.
#pragma once

#include "cli/verb.h"

namespace octavo {

Verb inspect_tokens_verb();

}  // namespace octavo
