#include "report/cast_figures.h"

#include <fmt/core.h>

#include <algorithm>

#include "report/heat_panels.h"

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
    return q.power ? power_label(value) : percent_label(value);
}

// The kinds of tensors of one role and their layers, in the order of the model.
std::vector<HeatPanel> panels_of(const RunData& run, const Quantity& q, const std::string& role,
                                 std::size_t most) {
    const std::vector<CastStep>& steps = run.casts;
    const std::size_t columns = std::min(most, steps.size());
    std::vector<HeatPanel> panels;
    for (std::size_t s = 0; s < steps.size(); ++s) {
        for (const TensorCast& t : steps[s].tensors) {
            const TensorName name = split_tensor_name(t.tensor);
            if (name.role != role) continue;
            raise(panels, name.kind, name.layer, s * columns / steps.size(), columns,
                  t.stats.*q.number);
        }
    }
    return panels;
}

Axis colors(const Quantity& q, const PanelRange& range) {
    return q.high > 0 ? Axis(q.low, q.high, true) : range.axis();
}

bool is_zero_everywhere(const RunData& run, const Quantity& q) {
    return std::ranges::all_of(run.casts, [&](const CastStep& step) {
        return std::ranges::all_of(step.tensors,
                                   [&](const TensorCast& t) { return t.stats.*q.number == 0; });
    });
}

std::string describe(const Quantity& q, const PanelRange& range) {
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
        auto panels = panels_of(run, q, role.name, columns);
        if (panels.empty()) continue;
        const PanelRange range(panels);
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
