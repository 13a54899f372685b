// Models on disk as verbs take them.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "recipes/recipe.h"

namespace octavo {

struct ModelFolder {
    std::filesystem::path path;         // has config.json and weights
    std::optional<Recipe> recipe = {};  // that trained it; none for folders that are no checkpoint
    std::map<std::string, std::string> extra = {};  // of the checkpoint's manifest
};

// A Hugging Face folder, a checkpoint, or a run folder, of which the newest checkpoint is meant.
ModelFolder find_model(const std::filesystem::path&);

}  // namespace octavo
