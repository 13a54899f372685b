// One chart as an SVG element, coloured by the classes of the page around it (page.cpp).
#pragma once

#include <string>
#include <vector>

#include "report/axis.h"
#include "report/series.h"

namespace octavo {

struct ChartSeries {
    std::string name;
    int style = 0;             // colour, marker shape and, beyond eight, dashes
    std::vector<Point> faint;  // every step
    std::vector<Point> line;   // what the eye should follow
    std::vector<Point> marks;  // few points, such as evaluations
};

struct Chart {
    std::string id;  // unique on the page, letters and dashes
    std::string title, description;
    std::string y_label;
    Axis x, y;
    std::string x_label = "step";  // steps have no halves
    int width = 470, height = 250;
    double bucket = 1;        // pixels that one pair of extremes may stand for
    bool end_labels = false;  // names at the right ends of the lines
    bool zero_line = false;
    std::vector<ChartSeries> series;
};

std::string render_svg(const Chart& chart);

// "c0" to "c7", with dashes in every further round.
std::string style_class(int style);

// The sample of a series that stands before its name in legends.
std::string legend_mark(int style);

}  // namespace octavo
