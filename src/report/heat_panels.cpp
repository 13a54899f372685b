#include "report/heat_panels.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "report/scales.h"

namespace octavo {

void raise(std::vector<HeatPanel>& panels, const std::string& title, int layer, std::size_t column,
           std::size_t columns, double value) {
    auto panel = std::ranges::find(panels, title, &HeatPanel::title);
    if (panel == panels.end()) panel = panels.insert(panel, {title, {}});
    const auto row = static_cast<std::size_t>(std::max(layer, 0));
    if (panel->rows.size() <= row) panel->rows.resize(row + 1);
    auto& cells = panel->rows[row];
    cells.resize(columns);
    if (is_worse(value, cells[column])) cells[column] = value;
}

PanelRange::PanelRange(const std::vector<HeatPanel>& panels) {
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

std::string power_label(double value) { return fmt::format("2^{}", std::lround(std::log2(value))); }
std::string percent_label(double value) { return fmt::format("{:.2g} %", 100 * value); }

}  // namespace octavo
