// Models on disk as verbs take them.
#pragma once

#include <filesystem>
#include <optional>

#include "recipes/recipe.h"

namespace octavo {

struct ModelFolder {
    std::filesystem::path path;         // has config.json and weights
    std::optional<Recipe> recipe = {};  // that trained it; none for folders that are no checkpoint
    bool byte_level = false;            // trained on bytes (io/byte_tokenizer.h)
};

// A Hugging Face folder, a checkpoint, or a run folder, of which the newest checkpoint is meant.
ModelFolder find_model(const std::filesystem::path&);

}  // namespace octavo
