// What `octavo inspect scales` prints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "report/scales.h"

namespace octavo {

struct ScalesQuery {
    std::string tensor = {};                // only tensors whose names contain it
    std::optional<std::int64_t> step = {};  // this measured step instead of the whole run
};

// Aligned plain text, one row a tensor in the order of the model: how its scale moved over the run,
// its largest value, and its worst shares and error with the steps they occurred at; or the numbers
// of one step. Errors for no steps, a step that was not measured, and a name that nothing contains.
std::string scales_table(const std::vector<CastStep>& steps, const ScalesQuery& query);

// The measured steps of a run's folder. Error if it has none.
std::vector<CastStep> load_scales(const std::filesystem::path& folder);

}  // namespace octavo
