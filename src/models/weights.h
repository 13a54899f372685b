// The weights of a model, from a folder in the form of Hugging Face.
#pragma once

#include <filesystem>

#include "runtime/state.h"

namespace octavo {

// Fills the master weights of `state` (names without a role) from `folder`'s safetensors, which may
// be sharded; a checkpoint of Octavo is such a folder. f64, bf16 and f16 are converted. GPT-2's
// names may lack their prefix "transformer.", and what is no parameter (attention masks, rotary
// frequencies, a tied head that repeats the embedding) is passed over. Any other missing, unknown
// or misfit tensor is an Error that names it and leaves `state` as it was.
void load_weights(const std::filesystem::path& folder, State& state);

}  // namespace octavo
