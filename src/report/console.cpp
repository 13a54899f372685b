#include "report/console.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "report/text.h"

namespace octavo {
namespace {

constexpr std::string_view kDim = "\x1b[2m", kBold = "\x1b[1m", kRed = "\x1b[1;31m",
                           kReset = "\x1b[0m";

std::string colored(std::string text, std::string_view color, const ConsoleStyle& style) {
    return style.color ? fmt::format("{}{}{}", color, text, kReset) : text;
}

std::string loss_cell(double loss, int width, std::string_view color, const ConsoleStyle& style) {
    return colored(fmt::format("{:>{}}", format_loss(loss), width),
                   std::isfinite(loss) ? color : kRed, style);
}

int step_width(std::int64_t total_steps) {
    return std::max<int>(9, 2 * static_cast<int>(fmt::formatted_size("{}", total_steps)) + 1);
}

std::string grad_norm(double norm) {
    return std::abs(norm) < 1000 ? fmt::format("{:.3f}", norm) : fmt::format("{:.2e}", norm);
}

std::string share(double share_of_peak) {
    return share_of_peak > 0 ? fmt::format("{:.1f}%", 100 * share_of_peak) : "-";
}

}  // namespace

ConsoleStyle console_style(bool is_terminal, std::string_view no_color, std::string_view term) {
    const bool capable = is_terminal && term != "dumb";
    return {.color = capable && no_color.empty(), .live = capable};
}

std::string header_line(std::int64_t total_steps, const ConsoleStyle& style) {
    return colored(fmt::format("{:>{}} {:>9} {:>9} {:>10} {:>9} {:>8} {:>6} {:>9} {:>8}", "step",
                               step_width(total_steps), "loss", "held-out", "grad norm", "lr",
                               "tok/s", "bound", "memory", "ETA"),
                   kDim, style);
}

std::string step_line(const StepMetrics& metrics, std::int64_t total_steps,
                      std::optional<double> eta_s, const ConsoleStyle& style) {
    const std::string held_out = metrics.held_out_loss
                                     ? loss_cell(*metrics.held_out_loss, 9, kBold, style)
                                     : std::string(9, ' ');
    return fmt::format("{:>{}} {} {} {:>10} {:>9.2e} {:>8} {:>6} {:>6.2f} GB {:>8}",
                       fmt::format("{}/{}", metrics.step, total_steps), step_width(total_steps),
                       loss_cell(metrics.loss, 9, kBold, style), held_out,
                       grad_norm(metrics.grad_norm), metrics.lr,
                       format_compact(metrics.tokens_per_s), share(metrics.share_of_peak),
                       metrics.memory_gb, eta_s ? format_duration(*eta_s) : "-");
}

std::string progress_line(std::string_view what, std::int64_t done, std::int64_t total, int width) {
    constexpr int kBar = 24;
    const double part = total > 0 ? std::clamp(double(done) / double(total), 0.0, 1.0) : 0.0;
    const int filled = static_cast<int>(part * kBar);
    std::string bar(static_cast<std::size_t>(filled), '=');
    if (filled < kBar) bar += '>';
    bar.resize(kBar, ' ');
    std::string line =
        fmt::format("{} [{}] {:>3.0f} %  {}/{}", what, bar, std::floor(100 * part), done, total);
    // A line that wraps could not be erased.
    if (static_cast<int>(line.size()) >= width) line.resize(std::max(0, width - 1));
    return line;
}

void Eta::add(std::int64_t step, double time_s) {
    recent_.emplace_back(step, time_s);
    if (recent_.size() > 100) recent_.pop_front();
}

std::optional<double> Eta::seconds_until(std::int64_t last_step) const {
    if (recent_.size() < 2 || recent_.back().first <= recent_.front().first) return {};
    const double pace = (recent_.back().second - recent_.front().second) /
                        double(recent_.back().first - recent_.front().first);
    return std::max(0.0, pace * double(last_step - recent_.back().first));
}

}  // namespace octavo
