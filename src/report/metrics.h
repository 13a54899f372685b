// metrics.jsonl, the truth about a run: one JSON object a line, one line a step.
//
//     {"step":100,"time":1760000000.5,"tokens":204800,"loss":2.345,"grad_norm":0.81,"lr":0.0003,
//      "tok_s":61200.0,"sol":0.453,"mem_gb":1.24,"held_out_loss":2.401}
//
// `held_out_loss` is there only on steps that evaluated; further numbers may follow under their own
// names. JSON has no NaN or infinity: such a value is null, and `"nonfinite":{"loss":"nan"}` (or
// "inf", "-inf") says which one it was.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/step_log.h"

namespace octavo {

struct StepMetrics {
    std::int64_t step = 0;
    double time_s = 0;        // unix time at the end of the step
    std::int64_t tokens = 0;  // trained on so far, this step included
    double loss = 0;          // mean over the step's tokens, nats
    double grad_norm = 0;     // before clipping
    double lr = 0;
    double tokens_per_s = 0;
    double share_of_peak = 0;                  // of the machine's measured bound, 0..1
    double memory_gb = 0;                      // 1e9 bytes
    std::optional<double> held_out_loss = {};  // nats
    std::vector<std::pair<std::string, double>> extra = {};

    bool operator==(const StepMetrics&) const = default;
};

// One line without its line break.
std::string metrics_line(const StepMetrics& metrics);

// In strictly rising order of `step`.
using MetricsFile = ParsedSteps<StepMetrics>;

// A last line without a line break that is not a whole object was torn by a crash and is skipped
// with a note. Any other bad line, or a step that does not rise, is an Error with its line number.
MetricsFile parse_metrics(std::string_view text, const std::string& where);
MetricsFile read_metrics(const std::filesystem::path& path);

// Appends steps; StepLog says how it opens.
class MetricsLog {
  public:
    static constexpr std::int64_t kNewRun = StepLog::kNewRun;

    static MetricsLog open(const std::filesystem::path& path, std::int64_t resume_step);

    void append(const StepMetrics& metrics);  // steps must rise
    const std::string& note() const { return log_.note(); }

  private:
    explicit MetricsLog(StepLog log) : log_(std::move(log)) {}

    StepLog log_;
};

}  // namespace octavo
