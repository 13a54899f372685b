// A run as its folder tells it: run.json (what it is), config.toml (how it was set up),
// metrics.jsonl (what happened) and scales.jsonl (what 8 bits did).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "report/metrics.h"
#include "report/scales.h"

namespace octavo {

// run.json, written when a run starts. Readers manage without it.
struct RunInfo {
    std::string name;    // shown in legends; the folder's name if empty
    std::string recipe;  // "fp8-lm"
    std::string model;   // "llama, 6 layers of 256"
    std::int64_t parameters = 0;
    std::int64_t state_bytes = 0;  // weights, masters, moments, scales: all that a checkpoint holds
    // The memory plan, in bytes by part: "state: master weights", "activations", ...
    std::vector<std::pair<std::string, std::int64_t>> memory = {};

    bool operator==(const RunInfo&) const = default;
};

void write_run_info(const std::filesystem::path& folder, const RunInfo& info);

struct RunData {
    RunInfo info;
    std::string config;  // text of config.toml; empty if there is none
    std::vector<StepMetrics> steps;
    std::vector<CastStep> casts;  // empty if none were measured
    std::string note;             // what the readers passed over
    std::string sample = {};      // a text of the model; not from the folder
};

// Throws Error if the folder is missing, is no run, or has no step yet.
RunData load_run(const std::filesystem::path& folder);

struct RunSummary {
    std::string name, recipe;
    std::int64_t steps = 0, tokens = 0;
    double train_loss = 0;                // mean over the last tenth of the steps, at most 100
    std::optional<double> held_out_loss;  // the last one
    double tokens_per_s = 0;              // median; the first step, which warms up, does not count
    double memory_gb = 0;                 // largest
    std::int64_t state_bytes = 0;         // 0: unknown
};

RunSummary summarise(const RunData& run);

// Aligned plain text, one row a run, with differences to the first run in percent. Ends with a line
// break.
std::string comparison_table(std::span<const RunSummary> runs);

}  // namespace octavo
