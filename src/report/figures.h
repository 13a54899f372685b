// Which charts a report shows, and how a run's numbers become their curves.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/chart.h"
#include "report/run.h"

namespace octavo {

struct LossView {
    std::string id, label;  // "half", "last half"
    Chart chart;
};

// Train loss (every step faint, smoothed on top) and held-out points: against steps (all of them,
// on a log scale, the last half), against tokens, and against the time spent on training.
std::vector<LossView> loss_views(std::span<const RunData> runs);

// Seconds of training by the end of each step: those of the steps themselves, without evaluations,
// checkpoints and pauses.
std::vector<double> training_time(const RunData& run);

// The others, in reading order: loss relative to the first run, gradient norm, speed, learning
// rate, share of the machine's bound. Those with nothing to show are left out.
std::vector<Chart> side_figures(std::span<const RunData> runs);

// One for every further number in metrics.jsonl that is not of a layer (layer_figures.h), at most
// `limit`; `names` gets all their names.
std::vector<Chart> extra_figures(std::span<const RunData> runs, std::size_t limit,
                                 std::vector<std::string>& names);

}  // namespace octavo
