// Which charts a report shows, and how a run's numbers become their curves.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/chart.h"
#include "report/run.h"

namespace octavo {

struct LossFigure {
    Chart whole, log_steps, last_half;
};

// Train loss (every step faint, smoothed on top) and held-out points, in three views.
LossFigure loss_figure(std::span<const RunData> runs);

// The others, in reading order: loss relative to the first run, gradient norm, speed, learning
// rate, share of the machine's bound. Those with nothing to show are left out.
std::vector<Chart> side_figures(std::span<const RunData> runs);

// One for every further number in metrics.jsonl, at most `limit`; `names` gets all their names.
std::vector<Chart> extra_figures(std::span<const RunData> runs, std::size_t limit,
                                 std::vector<std::string>& names);

}  // namespace octavo
