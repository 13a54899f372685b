// Named models: `--model gpt2-124m`, or `preset = "gpt2-124m"` in a run file's [model].
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.h"

namespace octavo {

std::vector<std::string> model_preset_names();

// Throws a usage Error for an unknown name.
const RunConfig::Model& model_preset(std::string_view name);

}  // namespace octavo
