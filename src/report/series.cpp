#include "report/series.h"

#include <algorithm>
#include <cmath>

namespace octavo {
namespace {

std::vector<Point> running_mean(std::span<const Point> points) {
    const std::size_t n = points.size();
    std::vector<double> sum(n + 1, 0.0), count(n + 1, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
        // One value that dwarfs the rest would cancel all that follows it in the running sums.
        const bool usable = std::abs(points[i].y) < 1e12;
        sum[i + 1] = sum[i] + (usable ? points[i].y : 0);
        count[i + 1] = count[i] + (usable ? 1 : 0);
    }
    std::vector<Point> out(points.begin(), points.end());
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t reach = std::min(i / 20, n / 100);
        const std::size_t from = i - reach, to = std::min(n, i + reach + 1);
        out[i].y = (sum[to] - sum[from]) / (count[to] - count[from]);  // 0 / 0: a gap
    }
    return out;
}

}  // namespace

// Twice, because one running mean turns every spike into a box.
std::vector<Point> smooth(std::span<const Point> points) {
    return running_mean(running_mean(points));
}

std::vector<Point> decimate(std::span<const Point> points, double width) {
    std::vector<Point> out;
    for (std::size_t i = 0; i < points.size();) {
        if (!std::isfinite(points[i].y)) {
            if (out.empty() || std::isfinite(out.back().y)) out.push_back(points[i]);
            ++i;
            continue;
        }
        const double bucket = std::floor(points[i].x / width);
        std::size_t low = i, high = i;
        for (; i < points.size() && std::isfinite(points[i].y) &&
               std::floor(points[i].x / width) == bucket;
             ++i) {
            if (points[i].y < points[low].y) low = i;
            if (points[i].y > points[high].y) high = i;
        }
        out.push_back(points[std::min(low, high)]);
        if (low != high) out.push_back(points[std::max(low, high)]);
    }
    return out;
}

}  // namespace octavo
