// From a run's config to the things it is about.
#pragma once

#include "config/run_config.h"
#include "train/step_graphs.h"

namespace octavo {

// Of config.model, or of the Hugging Face folder that model.path names.
Architecture architecture_of(const RunConfig&);
Recipe recipe_of(const RunConfig&);
StepOptions step_options_of(const RunConfig&);
// "llama, 8 layers of 256".
std::string describe(const Architecture&);

}  // namespace octavo
