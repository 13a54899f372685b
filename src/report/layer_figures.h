// Heat maps of the numbers that metrics.jsonl has layer by layer, "swiglu.amax.3"
// (train/layer_metrics.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/cast_figures.h"

namespace octavo {

// Whether a number of metrics.jsonl is one of these.
bool is_layer_metric(std::string_view name);

// As cast_figures. Empty for a run without such numbers.
std::vector<CastFigure> layer_figures(const RunData& run, std::size_t columns,
                                      const std::string& id);

}  // namespace octavo
