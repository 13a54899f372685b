#include "report/figures.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "report/layer_figures.h"
#include "report/text.h"

namespace octavo {
namespace {

using Getter = std::function<double(const StepMetrics&)>;

std::vector<Point> collect(const RunData& run, const Getter& get) {
    std::vector<Point> points;
    for (const StepMetrics& step : run.steps) points.push_back({double(step.step), get(step)});
    return points;
}

double loss_of(const StepMetrics& step) { return step.loss; }

std::vector<Point> held_out(const RunData& run) {
    std::vector<Point> points;
    for (const StepMetrics& step : run.steps) {
        if (step.held_out_loss) points.push_back({double(step.step), *step.held_out_loss});
    }
    return points;
}

// By run, then by step: what stands for the step on the x axis.
using Places = std::vector<std::vector<double>>;

// Points of steps, moved to the places of these steps.
std::vector<Point> moved(std::vector<Point> points, const RunData& run,
                         const std::vector<double>& places) {
    std::size_t i = 0;
    for (Point& p : points) {
        while (double(run.steps[i].step) < p.x) ++i;
        p.x = places[i];
    }
    return points;
}

// Collects values and tells the range to show. Of raw values the outermost are left out, so that a
// spike does not flatten all the rest.
class Range {
  public:
    void include(double value) {
        if (!std::isfinite(value)) return;
        lo_ = std::min(lo_, value);
        hi_ = std::max(hi_, value);
    }

    void include(const std::vector<Point>& points, const Axis& x) {
        for (const Point& p : points) {
            if (p.x >= x.lo() && p.x <= x.hi()) include(p.y);
        }
    }

    void include_most(const std::vector<Point>& points, const Axis& x, double left_out) {
        std::vector<double> values;
        for (const Point& p : points) {
            if (p.x >= x.lo() && p.x <= x.hi() && std::isfinite(p.y)) values.push_back(p.y);
        }
        if (values.empty()) return;
        std::sort(values.begin(), values.end());
        const auto skip = static_cast<std::size_t>(left_out * double(values.size()));
        include(values[skip]);
        include(values[values.size() - 1 - skip]);
    }

    bool empty() const { return lo_ > hi_; }
    double lo() const { return lo_; }
    double hi() const { return hi_; }

    Axis linear(double pad) const {
        const double space = pad * (hi_ - lo_);
        return {lo_ - space, hi_ + space};
    }
    Axis logarithmic() const { return {lo_ / 1.15, hi_ * 1.15, true}; }

  private:
    double lo_ = std::numeric_limits<double>::infinity();
    double hi_ = -std::numeric_limits<double>::infinity();
};

double last_step(std::span<const RunData> runs) {
    double last = 1;
    for (const RunData& run : runs) last = std::max(last, double(run.steps.back().step));
    return last;
}

double first_step(std::span<const RunData> runs) {
    double first = last_step(runs);
    for (const RunData& run : runs) {
        const std::int64_t step = run.steps.front().step;
        first = std::min(first, std::max(1.0, double(step)));
    }
    return first;
}

// Many runs share the page's bytes, and their raw values would cover each other.
double bucket(std::span<const RunData> runs) { return std::max(1.0, double(runs.size()) / 8); }
bool show_raw(std::span<const RunData> runs) { return runs.size() <= 4; }

std::string describe(const std::string& what, const std::vector<ChartSeries>& series) {
    std::string text = what;
    for (const ChartSeries& s : series) {
        if (s.line.empty()) continue;
        text += fmt::format(" {}: {:.4g} at step {:.0f}, {:.4g} at step {:.0f}.", s.name,
                            s.line.front().y, s.line.front().x, s.line.back().y, s.line.back().x);
    }
    return text;
}

// `shown` is the part of x that sets the range of y.
Chart loss_view(std::string id, std::string title, Axis x, Axis shown,
                std::span<const RunData> runs, const std::vector<ChartSeries>& series) {
    Range range;
    for (const ChartSeries& s : series) {
        range.include(s.line, shown);
        range.include(s.marks, shown);
        range.include_most(s.faint, shown, 0.005);
    }
    return {.id = std::move(id),
            .title = title,
            .description = describe(title + ", training loss.", series),
            .y_label = "loss, nats per token",
            .x = x,
            .y = range.linear(0.04),
            .width = 960,
            .height = 400,
            .bucket = bucket(runs),
            .end_labels = true,
            .series = series};
}

// Exact values are drawn as they are, all others smoothed over their faint raw values. Timings lack
// the first step, which warms up the machine and says nothing about the run. Sparse numbers are not
// there on every step.
enum class Kind { exact, noisy, timing, sparse };

// Curves of one number of each run.
Chart simple_chart(std::string id, std::string title, std::string y_label,
                   std::span<const RunData> runs, const Getter& get, Kind kind) {
    const bool noisy = kind != Kind::exact;
    Chart chart{.id = std::move(id),
                .title = title,
                .description = {},
                .y_label = std::move(y_label),
                .x = Axis(0, last_step(runs)),
                .y = Axis(0, 1),
                .bucket = bucket(runs),
                .series = {}};
    Range range;
    for (std::size_t r = 0; r < runs.size(); ++r) {
        std::vector<Point> points = collect(runs[r], get);
        if (kind == Kind::timing && points.size() > 1) points.erase(points.begin());
        if (kind == Kind::sparse) {
            std::erase_if(points, [](const Point& p) { return std::isnan(p.y); });
        }
        ChartSeries series{.name = runs[r].info.name,
                           .style = static_cast<int>(r),
                           .faint = {},
                           .line = noisy ? smooth(points) : points,
                           .marks = {}};
        if (noisy && show_raw(runs)) series.faint = points;
        range.include(series.line, chart.x);
        range.include_most(series.faint, chart.x, 0.01);
        chart.series.push_back(std::move(series));
    }
    chart.y = range.linear(0.05);
    if (range.lo() >= 0 && range.lo() < 0.6 * range.hi()) chart.y = Axis(0, range.hi() * 1.05);
    if (noisy && range.lo() > 0 && range.hi() / range.lo() > 20) chart.y = range.logarithmic();
    chart.description = describe(title + " against step.", chart.series);
    return chart;
}

// In percent of the first run's loss, on the steps that both have.
std::vector<Point> relative(const std::vector<Point>& points, const std::vector<Point>& first) {
    std::vector<Point> out;
    auto other = first.begin();
    for (const Point& p : points) {
        while (other != first.end() && other->x < p.x) ++other;
        if (other == first.end()) break;
        if (other->x == p.x) out.push_back({p.x, 100 * (p.y - other->y) / other->y});
    }
    return out;
}

Chart difference_chart(std::span<const RunData> runs) {
    const std::string& first = runs[0].info.name;
    Chart chart{.id = "difference",
                .title = "Loss relative to " + first,
                .description = {},
                .y_label = "difference, %",
                .x = Axis(0, last_step(runs)),
                .y = Axis(0, 1),
                .bucket = bucket(runs),
                .zero_line = true,
                .series = {}};
    Range range;
    range.include(0);
    const auto first_loss = collect(runs[0], loss_of), first_held_out = held_out(runs[0]);
    for (std::size_t r = 1; r < runs.size(); ++r) {
        ChartSeries series{.name = runs[r].info.name,
                           .style = static_cast<int>(r),
                           .faint = relative(collect(runs[r], loss_of), first_loss),
                           .line = {},
                           .marks = relative(held_out(runs[r]), first_held_out)};
        series.line = smooth(series.faint);
        range.include(series.line, chart.x);
        range.include(series.marks, chart.x);
        range.include_most(series.faint, chart.x, 0.1);
        if (series.line.size() < 2) continue;
        if (!show_raw(runs)) series.faint.clear();
        chart.series.push_back(std::move(series));
    }
    chart.y = range.linear(0.08);
    chart.description =
        describe(chart.title + ", in percent, on the steps both have.", chart.series);
    return chart;
}

double find_extra(const StepMetrics& step, const std::string& name) {
    for (const auto& [key, value] : step.extra) {
        if (key == name) return value;
    }
    return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::vector<double> training_time(const RunData& run) {
    std::vector<double> seconds;
    double sum = 0;
    for (const StepMetrics& step : run.steps) {
        // The tokens of steps that were not recorded took time as well.
        const auto before = seconds.empty() ? 0 : run.steps[seconds.size() - 1].tokens;
        const double took = double(step.tokens - before) / step.tokens_per_s;
        if (std::isfinite(took) && took > 0) sum += took;
        seconds.push_back(sum);
    }
    return seconds;
}

std::vector<LossView> loss_views(std::span<const RunData> runs) {
    std::vector<ChartSeries> series;
    for (std::size_t r = 0; r < runs.size(); ++r) {
        auto points = collect(runs[r], loss_of);
        series.push_back({.name = runs[r].info.name,
                          .style = static_cast<int>(r),
                          .faint = show_raw(runs) ? points : std::vector<Point>(),
                          .line = smooth(points),
                          .marks = held_out(runs[r])});
    }
    const double last = last_step(runs);
    const Axis whole(0, last), log_steps(first_step(runs), last, true), half(last / 2, last);
    // The first steep steps would press all that follows into a line along the bottom; the view
    // with log steps has room for them.
    const Axis settled(last / 25, last);
    std::vector<LossView> views{
        {"whole", "whole run",
         loss_view("loss-whole", "Loss, whole run", whole, settled, runs, series)},
        {"log", "log steps",
         loss_view("loss-log", "Loss, steps on a log scale", log_steps, log_steps, runs, series)},
        {"half", "last half", loss_view("loss-half", "Loss, last half", half, half, runs, series)}};

    const auto add_against = [&](const std::string& id, const std::string& what,
                                 const Places& places) {
        double end = 0;
        std::vector<ChartSeries> placed = series;
        for (std::size_t r = 0; r < runs.size(); ++r) {
            placed[r].faint.clear();  // shown against steps, and most of the page's bytes
            placed[r].line = moved(std::move(placed[r].line), runs[r], places[r]);
            placed[r].marks = moved(std::move(placed[r].marks), runs[r], places[r]);
            end = std::max(end, places[r].back());
        }
        views.push_back({id, id,
                         loss_view("loss-" + id, "Loss against " + what, Axis(0, end),
                                   Axis(end / 25, end), runs, placed)});
        views.back().chart.x_label = what;
        views.back().chart.bucket *= 3;  // smooth lines lose nothing by it
    };
    Places tokens, time;
    for (const RunData& run : runs) {
        tokens.emplace_back();
        for (const StepMetrics& step : run.steps) tokens.back().push_back(double(step.tokens));
        time.push_back(training_time(run));
    }
    add_against("tokens", "tokens", tokens);
    double longest = 0;
    for (const auto& seconds : time) longest = std::max(longest, seconds.back());
    const auto [unit, size] = longest > 2 * 3600 ? std::pair{"h", 3600.0}
                              : longest > 2 * 60 ? std::pair{"min", 60.0}
                                                 : std::pair{"s", 1.0};
    for (auto& seconds : time) {
        for (double& second : seconds) second /= size;
    }
    add_against("time", fmt::format("training time, {}", unit), time);
    return views;
}

std::vector<Chart> side_figures(std::span<const RunData> runs) {
    std::vector<Chart> charts;
    if (runs.size() > 1) {
        Chart difference = difference_chart(runs);
        if (!difference.series.empty()) charts.push_back(std::move(difference));
    }
    charts.push_back(simple_chart(
        "grad-norm", "Gradient norm", "before clipping", runs,
        [](const StepMetrics& step) { return step.grad_norm; }, Kind::noisy));
    charts.push_back(simple_chart(
        "speed", "Speed", "tokens/s", runs,
        [](const StepMetrics& step) { return step.tokens_per_s; }, Kind::timing));
    charts.push_back(simple_chart(
        "lr", "Learning rate", "per step", runs, [](const StepMetrics& step) { return step.lr; },
        Kind::exact));
    const bool bound_known = std::any_of(runs.begin(), runs.end(), [](const RunData& run) {
        return std::any_of(run.steps.begin(), run.steps.end(),
                           [](const StepMetrics& step) { return step.share_of_peak > 0; });
    });
    if (bound_known && charts.size() % 2 == 1) {
        charts.push_back(simple_chart(
            "bound", "Share of the machine's bound", "%", runs,
            [](const StepMetrics& step) { return 100 * step.share_of_peak; }, Kind::timing));
    }
    return charts;
}

std::vector<Chart> extra_figures(std::span<const RunData> runs, std::size_t limit,
                                 std::vector<std::string>& names) {
    for (const RunData& run : runs) {
        for (const StepMetrics& step : run.steps) {
            for (const auto& [name, value] : step.extra) {
                if (is_layer_metric(name)) continue;
                if (std::ranges::find(names, name) == names.end()) names.push_back(name);
            }
        }
    }
    std::vector<Chart> charts;
    for (std::size_t i = 0; i < std::min(names.size(), limit); ++i) {
        charts.push_back(simple_chart(
            fmt::format("extra-{}", i), names[i], "", runs,
            [&](const StepMetrics& step) { return find_extra(step, names[i]); }, Kind::sparse));
    }
    return charts;
}

}  // namespace octavo
