// Numbers over tensors and steps as an SVG element, coloured by the classes of the page around it
// (page.cpp).
#pragma once

#include <string>
#include <vector>

#include "report/axis.h"

namespace octavo {

struct HeatPanel {
    std::string title;
    std::vector<std::vector<double>> rows;  // by layer, then by column; empty: no such tensor
};

// Panels side by side, layers from top to bottom, steps from left to right, one scale of colours.
struct HeatMap {
    std::string id;  // unique on the page, letters and dashes
    std::string title, description;
    Axis colors;              // values off it get the nearest colour, 0 of a log axis none
    std::string low, high;    // what the ends of the axis mean
    std::string first, last;  // the steps of the outer columns
    std::vector<HeatPanel> panels;
};

inline constexpr int kHeatLevels = 12;  // classes h0 to h11

std::string render_svg(const HeatMap&);

}  // namespace octavo
