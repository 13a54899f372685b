// Rules that tie several keys together.
#pragma once

#include "config/run_config.h"

namespace octavo {

// Replaces the zeros of the model's shape that stand for "as usual" (see schema.cpp). Does nothing
// with model.path set. Throws a usage Error where no usual value exists.
void complete(RunConfig& config);

// Throws a usage Error naming the keys that contradict each other. Needs a complete config. With
// model.path set the model's shape is not looked at: config.json has it.
void validate(const RunConfig& config);

}  // namespace octavo
