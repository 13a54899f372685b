// From a run's config to the things it is about.
#pragma once

#include "config/run_config.h"
#include "runtime/backend.h"
#include "train/step_graphs.h"

namespace octavo {

// Of config.model, or of the Hugging Face folder that model.path names.
Architecture architecture_of(const RunConfig&);
Recipe recipe_of(const RunConfig&);
// recipe.bf16 must name layers that the model has. Throws a usage Error that lists them.
void check_layers(const Recipe&, const Architecture&);
StepOptions step_options_of(const RunConfig&);
// How many bytes a plan may take: what the config allows, or else what the backend has.
std::int64_t memory_limit(const RunConfig&, const Backend&);
// "llama, 8 layers of 256".
std::string describe(const Architecture&);
// "fp8-lm O2", "fp8-lm, down_proj in bf16".
std::string describe(const RunConfig::Recipe&);

}  // namespace octavo
