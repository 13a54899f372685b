#include "report/cast_figures.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace octavo {
namespace {

struct Quantity {
    const char* name;  // for ids
    const char* title;
    const char* note;
    float CastStats::* number;
    bool power;                // shown as a power of two, else in percent
    double low = 0, high = 0;  // of the colours; 0: of the numbers themselves
};

constexpr Quantity kQuantities[] = {
    {"amax", "Largest values", "The largest magnitude of each tensor.", &CastStats::amax, true},
    {"scale", "Scales",
     "What a code of 1 stands for; of tensors with many scales, the largest of them.",
     &CastStats::scale_max, true},
    {"saturated", "Saturated values",
     "Share of the values that lie beyond the largest code. Grey: none.", &CastStats::saturated,
     false, 1e-6, 1},
    {"flushed", "Flushed values", "Share of the values other than 0 that became 0. Grey: none.",
     &CastStats::flushed, false, 1e-6, 1},
    {"error", "Errors",
     "Root of the mean square of what the cast changed, relative to that of the values. 2.5 % is "
     "that of E4M3 whose values all lie in its range, 5 % that of E5M2.",
     &CastStats::error, false},
};

struct Role {
    const char* name;
    const char* title;
};
constexpr Role kRoles[] = {
    {"x", "activations"},       {"x_t", "activations, along the tokens"},
    {"dy", "output gradients"}, {"dy_t", "output gradients, along the tokens"},
    {"weight", "weights"},      {"grad", "gradients of weights, at rest"},
};

std::string label(const Quantity& q, double value) {
    if (!q.power) return fmt::format("{:.2g} %", 100 * value);
    return fmt::format("2^{}", std::lround(std::log2(value)));
}

// The kinds of tensors of one role and their layers, in the order of the model.
class Panels {
  public:
    Panels(const RunData& run, const Quantity& q, const std::string& role, std::size_t most)
        : steps_(run.casts), columns_(std::min(most, steps_.size())) {
        for (std::size_t s = 0; s < steps_.size(); ++s) {
            for (const TensorCast& t : steps_[s].tensors) {
                const TensorName name = split_tensor_name(t.tensor);
                if (name.role == role) raise(name, s * columns_ / steps_.size(), t.stats.*q.number);
            }
        }
    }

    std::vector<HeatPanel> panels;

  private:
    void raise(const TensorName& name, std::size_t column, double value) {
        auto panel = std::ranges::find(panels, name.kind, &HeatPanel::title);
        if (panel == panels.end()) panel = panels.insert(panel, {name.kind, {}});
        const auto row = static_cast<std::size_t>(std::max(name.layer, 0));
        if (panel->rows.size() <= row) panel->rows.resize(row + 1);
        auto& cells = panel->rows[row];
        cells.resize(columns_);
        if (is_worse(value, cells[column])) cells[column] = value;
    }

    const std::vector<CastStep>& steps_;
    std::size_t columns_;
};

// The largest number of a role's tensors, and the smallest above 0.
struct Range {
    double low = std::numeric_limits<double>::infinity(), high = 0;

    explicit Range(const std::vector<HeatPanel>& panels) {
        for (const HeatPanel& p : panels) {
            for (const auto& row : p.rows) {
                for (const double x : row) {
                    if (!std::isfinite(x) || x <= 0) continue;
                    low = std::min(low, x);
                    high = std::max(high, x);
                }
            }
        }
    }
};

Axis colors(const Quantity& q, const Range& range) {
    if (q.high > 0) return {q.low, q.high, true};
    return range.high > 0 ? Axis(range.low, range.high, true) : Axis(0.5, 2, true);
}

bool is_zero_everywhere(const RunData& run, const Quantity& q) {
    return std::ranges::all_of(run.casts, [&](const CastStep& step) {
        return std::ranges::all_of(step.tensors,
                                   [&](const TensorCast& t) { return t.stats.*q.number == 0; });
    });
}

std::string describe(const Quantity& q, const Range& range) {
    return fmt::format("{} Rows are layers, columns measured steps. The largest: {}.", q.note,
                       range.high > 0 ? label(q, range.high) : "0");
}

CastFigure figure(const RunData& run, const Quantity& q, std::size_t columns,
                  const std::string& id) {
    CastFigure figure{.title = q.title, .note = q.note, .maps = {}};
    if (is_zero_everywhere(run, q)) {
        figure.note += " There were none in any measured step.";
        return figure;
    }
    for (const Role& role : kRoles) {
        auto panels = Panels(run, q, role.name, columns).panels;
        if (panels.empty()) continue;
        const Range range(panels);
        const Axis axis = colors(q, range);
        figure.maps.push_back({.id = fmt::format("{}-{}-{}", id, q.name, role.name),
                               .title = fmt::format("{}: {}", role.name, role.title),
                               .description = describe(q, range),
                               .colors = axis,
                               .low = label(q, axis.lo()),
                               .high = label(q, axis.hi()),
                               .first = fmt::format("step {}", run.casts.front().step),
                               .last = fmt::format("{}", run.casts.back().step),
                               .panels = std::move(panels)});
    }
    return figure;
}

}  // namespace

std::vector<CastFigure> cast_figures(const RunData& run, std::size_t columns,
                                     const std::string& id) {
    std::vector<CastFigure> figures;
    if (run.casts.empty()) return figures;
    for (const Quantity& q : kQuantities) figures.push_back(figure(run, q, columns, id));
    return figures;
}

}  // namespace octavo
