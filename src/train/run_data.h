// What a run learns from and is evaluated on, as its config says.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "io/mixture.h"

namespace octavo {

// The files that an entry of data.train or data.held_out names: itself, or those that a pattern
// with * or ? in its last part fits, by name. Throws Error for a pattern that fits none.
std::vector<std::filesystem::path> data_files(const std::string& entry);

// Without data.weights one source of all files, else one for each entry of data.train, in shares
// that data.stages change.
Mixture training_data(const RunConfig&, std::int64_t vocabulary);
// All files of data.held_out as one stream, from its beginning.
BatchSource held_out_data(const RunConfig&, std::int64_t vocabulary);

// "data: web/*.bin 0.83 epochs, code/*.bin 2.10 epochs" after so many samples.
std::string epochs_text(const RunConfig&, const Mixture&, std::int64_t samples);

}  // namespace octavo
