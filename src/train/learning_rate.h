// The learning rate of each step: a linear warm-up, then the schedule of the config.
#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace octavo {

// Of step `step`, 1 <= step <= steps. Warm-up ends at the peak on step `warmup_steps`; every
// schedule but `constant` arrives at min_lr_ratio * lr on the last step.
double learning_rate(const RunConfig::Train&, std::int64_t step);

}  // namespace octavo
