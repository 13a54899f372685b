// A training run from its config to its last checkpoint.
#pragma once

#include <functional>
#include <string_view>

#include "config/run_config.h"
#include "runtime/backend.h"

namespace octavo {

enum class TrainOutcome {
    finished,
    interrupted,  // SIGINT or SIGTERM, after a checkpoint
};

struct TrainOutput {
    std::function<void(std::string_view line)> print;  // one line, without its line break
    std::function<void(std::string_view what, std::int64_t done, std::int64_t total)> progress;
    bool color = false;
};

// Trains as the config says, in config.run.dir, from the newest checkpoint there if there is one.
// Writes metrics.jsonl, TensorBoard events, checkpoints and report.html.
//
// A loss, a gradient norm or an amax of delayed scales that is not finite ends the run with an
// Error that names the first tensor with such values; weights and moments are then still those of
// the step before, and <run>/failure/ has the batch and what was found.
TrainOutcome train(const RunConfig&, Backend&, const TrainOutput&);

// The same, stopping after `stop_after` steps of this call as if the user had asked for it.
TrainOutcome train(const RunConfig&, Backend&, const TrainOutput&, std::int64_t stop_after);

}  // namespace octavo
