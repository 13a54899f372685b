#include "report/layer_figures.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include "report/heat_panels.h"

namespace octavo {
namespace {

std::string plain_label(double value) { return fmt::format("{:.3g}", value); }

struct Metric {
    const char* name;  // without the layer
    const char* title;
};
struct Group {
    const char* name;  // for ids
    const char* title;
    const char* note;
    std::initializer_list<Metric> metrics;
    std::string (*label)(double);
    double low = 0, high = 0;  // of the colours; 0: of the numbers themselves
    bool log = true;
};

const Group kGroups[] = {
    {"alignment",
     "Alignment of SwiGLU channels",
     "|cos| between a channel's gate and up weights. Independent ones of d features have "
     "1 / sqrt(d).",
     {{"swiglu.cos_p50", "median"},
      {"swiglu.cos_p99", "99th percentile"},
      {"swiglu.cos_max", "largest"}},
     plain_label,
     0,
     1,
     false},
    {"norms",
     "Norms of SwiGLU channels",
     "Of their gate and up weights, and the median of the one over the other.",
     {{"swiglu.norm_gate_max", "gate, largest"},
      {"swiglu.norm_up_max", "up, largest"},
      {"swiglu.norm_ratio", "gate / up"}},
     plain_label},
    {"values",
     "Values of SwiGLUs",
     "The largest of h = silu(gate) up, what Smooth-SwiGLU leaves of it, and what it divides by.",
     {{"swiglu.amax", "largest h"},
      {"swiglu.smooth_amax", "largest h, smoothed"},
      {"swiglu.sig_min", "smallest factor"},
      {"swiglu.sig_max", "largest factor"}},
     power_label},
    {"shares",
     "What their casts and those of second moments lose",
     "Shares of the values of h that saturate and that become 0, and of second moments that 8 bits "
     "have no code for but 0. Grey: none.",
     {{"swiglu.sat_frac", "h saturated"},
      {"swiglu.flush_frac", "h flushed"},
      {"adam.v_flush_frac", "v flushed"}},
     percent_label,
     1e-6,
     1},
};

// "swiglu.amax.3" in parts; without a layer it is -1.
struct LayerMetric {
    std::string_view name;
    int layer = -1;
};

LayerMetric split(std::string_view name) {
    const std::size_t dot = name.rfind('.');
    if (dot == name.npos) return {name};
    int layer = 0;
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + dot + 1, end, layer);
    if (error != std::errc() || rest != end) return {name};
    return {name.substr(0, dot), layer};
}

const Metric* find(const Group& group, const LayerMetric& m) {
    const auto* found = std::ranges::find(group.metrics, m.name,
                                          [](const Metric& x) { return std::string_view(x.name); });
    return m.layer < 0 || found == group.metrics.end() ? nullptr : found;
}

using Steps = std::vector<const StepMetrics*>;

Steps measured_steps(const RunData& run) {
    Steps steps;
    for (const StepMetrics& s : run.steps) {
        const bool has = std::ranges::any_of(
            s.extra, [](const auto& number) { return is_layer_metric(number.first); });
        if (has) steps.push_back(&s);
    }
    return steps;
}

// In the order of the group.
std::vector<HeatPanel> panels_of(const Group& group, const Steps& steps, std::size_t columns) {
    std::vector<HeatPanel> panels;
    for (const Metric& metric : group.metrics) {
        for (std::size_t s = 0; s < steps.size(); ++s) {
            for (const auto& [name, value] : steps[s]->extra) {
                const LayerMetric m = split(name);
                if (find(group, m) != &metric) continue;
                raise(panels, metric.title, m.layer, s * columns / steps.size(), columns, value);
            }
        }
    }
    return panels;
}

}  // namespace

bool is_layer_metric(std::string_view name) {
    const LayerMetric m = split(name);
    return std::ranges::any_of(kGroups, [&](const Group& g) { return find(g, m) != nullptr; });
}

std::vector<CastFigure> layer_figures(const RunData& run, std::size_t columns,
                                      const std::string& id) {
    const Steps steps = measured_steps(run);
    std::vector<CastFigure> figures;
    for (const Group& group : kGroups) {
        auto panels = panels_of(group, steps, std::min(columns, steps.size()));
        if (panels.empty()) continue;
        const PanelRange range(panels);
        const Axis colors = group.high > 0 ? Axis(group.low, group.high, group.log) : range.axis();
        CastFigure figure{.title = group.title, .note = group.note, .maps = {}};
        figure.maps.push_back(
            {.id = fmt::format("{}-{}", id, group.name),
             .title = group.title,
             .description =
                 fmt::format("{} Rows are layers, columns measured steps. The largest: {}.",
                             group.note, range.high > 0 ? group.label(range.high) : "0"),
             .colors = colors,
             .low = group.low == 0 && group.high > 0 ? "0" : group.label(colors.lo()),
             .high = group.label(colors.hi()),
             .first = fmt::format("step {}", steps.front()->step),
             .last = fmt::format("{}", steps.back()->step),
             .panels = std::move(panels)});
        figures.push_back(std::move(figure));
    }
    return figures;
}

}  // namespace octavo
