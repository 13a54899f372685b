// What a curve needs before it is drawn.
#pragma once

#include <span>
#include <vector>

namespace octavo {

struct Point {
    double x, y;
    bool operator==(const Point&) const = default;
};

// A weighted mean over neighbours: up to a fiftieth of the run to either side, and never more than
// a tenth of the points before, so that the first steep steps keep their shape. Values that are not
// finite, or beyond 1e12, are left out.
std::vector<Point> smooth(std::span<const Point> points);

// Points in rising order of x, reduced to the lowest and the highest of every `width` of x, in the
// order they came. Every extreme survives. Points that are not finite are kept, one per gap, so
// that the curve breaks there.
std::vector<Point> decimate(std::span<const Point> points, double width);

}  // namespace octavo
