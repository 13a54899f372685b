// From run files and command-line overrides to a RunConfig, and back to a file.
//
// Layers: the defaults, then the run file, then the overrides. A layer that names model.preset or
// model.path starts the model anew, whatever the layers below it said. All Errors are usage errors;
// they begin with file:line:column or the override as it was spelled.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.h"

namespace octavo {

struct Override {
    std::string key;      // "train.lr"
    std::string text;     // "3e-4"
    std::string spelled;  // "--train.lr", what error messages call it
};

// Reads, overrides, completes and validates. Without a file, the defaults are overridden.
RunConfig load_config(const std::optional<std::filesystem::path>& file,
                      const std::vector<Override>& overrides);

// The same for TOML in memory; `source` stands for the path in error messages and in run.dir.
RunConfig parse_config(std::string_view toml, const std::string& source,
                       const std::vector<Override>& overrides = {});

// The resolved config as a run file that loads to an equal RunConfig. With model.path set, the
// model's shape is left to that folder's config.json.
std::string to_toml(const RunConfig& config);

}  // namespace octavo
