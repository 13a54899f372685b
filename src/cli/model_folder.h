// Models on disk as verbs take them.
#pragma once

#include <filesystem>
#include <string>

namespace octavo {

struct ModelFolder {
    std::filesystem::path path;  // has config.json and weights
    std::string recipe = {};     // that trained it; empty for folders that are no checkpoint
    bool byte_level = false;     // trained on bytes (io/byte_tokenizer.h)
};

// A Hugging Face folder, a checkpoint, or a run folder, of which the newest checkpoint is meant.
ModelFolder find_model(const std::filesystem::path&);

}  // namespace octavo
