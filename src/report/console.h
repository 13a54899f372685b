// The lines that a training run prints. Formatting only: nothing here writes or asks the system.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "report/metrics.h"

namespace octavo {

struct ConsoleStyle {
    bool color = false;
    bool live = false;  // a progress line that overwrites itself
};

// `no_color` and `term` are the environment variables NO_COLOR and TERM, empty if unset.
// (no-color.org: any non-empty NO_COLOR turns colours off.)
ConsoleStyle console_style(bool is_terminal, std::string_view no_color, std::string_view term);

//      step      loss  held-out  grad norm        lr    tok/s  bound    memory      ETA
//  100/5000    2.3456    2.4012      0.812  3.00e-04    61.2k  45.3%   1.24 GB   12m03s
std::string header_line(std::int64_t total_steps, const ConsoleStyle& style);
std::string step_line(const StepMetrics& metrics, std::int64_t total_steps,
                      std::optional<double> eta_s, const ConsoleStyle& style);

// What is under way, cut to `width` columns: "evaluating [=====>    ] 52 %  13/25".
std::string progress_line(std::string_view what, std::int64_t done, std::int64_t total, int width);
// Print it before every progress line and before the line that follows one.
inline constexpr std::string_view kEraseLine = "\r\x1b[K";

// Time to the end, from the pace over the last hundred steps (evaluations and checkpoints included,
// the slow first step soon forgotten).
class Eta {
  public:
    void add(std::int64_t step, double time_s);
    std::optional<double> seconds_until(std::int64_t last_step) const;

  private:
    std::deque<std::pair<std::int64_t, double>> recent_;
};

}  // namespace octavo
