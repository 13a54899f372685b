// Numbers of layers and steps as the panels of a heat map.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "report/heat_map.h"

namespace octavo {

// Steps that share a column: the largest number counts, a NaN above all.
void raise(std::vector<HeatPanel>& panels, const std::string& title, int layer, std::size_t column,
           std::size_t columns, double value);

// The largest finite number, and the smallest above 0.
struct PanelRange {
    double low = std::numeric_limits<double>::infinity(), high = 0;

    explicit PanelRange(const std::vector<HeatPanel>& panels);
    // Logarithmic.
    Axis axis() const { return high > 0 ? Axis(low, high, true) : Axis(0.5, 2, true); }
};

std::string power_label(double value);    // "2^-3"
std::string percent_label(double value);  // "0.12 %"

}  // namespace octavo
