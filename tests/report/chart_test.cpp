#include "report/chart.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace octavo {
namespace {

std::vector<std::string> labels(const Axis& axis, int about) {
    std::vector<std::string> out;
    for (const Tick& tick : axis.ticks(about)) out.push_back(tick.label);
    return out;
}

using Labels = std::vector<std::string>;

TEST(Axis, TicksAreRoundNumbers) {
    EXPECT_EQ(labels(Axis(0, 600), 6), (Labels{"0", "100", "200", "300", "400", "500", "600"}));
    EXPECT_EQ(labels(Axis(1.31, 2.7), 5), (Labels{"1.5", "2", "2.5"}));
    EXPECT_EQ(labels(Axis(-0.4, 0.9), 5), (Labels{"0", "0.5"}));
    EXPECT_EQ(labels(Axis(0, 6.3e-4), 4), (Labels{"0", "2e-4", "4e-4", "6e-4"}));
    EXPECT_EQ(labels(Axis(0, 15000), 4), (Labels{"0", "5k", "10k", "15k"}));
    EXPECT_EQ(labels(Axis(1, 600, true), 8),
              (Labels{"1", "2", "5", "10", "20", "50", "100", "200", "500"}));
    EXPECT_EQ(labels(Axis(1, 1e6, true), 8), (Labels{"1", "10", "100", "1k", "10k", "100k", "1M"}));
    EXPECT_EQ(labels(Axis(2.1, 2.9, true), 4), (Labels{"2.2", "2.4", "2.6", "2.8"}));
}

TEST(Axis, AnyRangeGetsAUsableAxis) {
    const double inf = INFINITY;
    for (const bool log : {false, true}) {
        for (const double lo : {0.0, 1.0, -5.0, 1e-300, 1e300, -inf, inf, std::nan("")}) {
            for (const double hi : {0.0, 1.0, -5.0, 1e-300, 1e300, -inf, inf, std::nan("")}) {
                const Axis axis(lo, hi, log);
                EXPECT_LT(axis.lo(), axis.hi()) << lo << ' ' << hi << ' ' << log;
                EXPECT_NEAR(axis.at(axis.lo()), 0, 1e-9);
                EXPECT_NEAR(axis.at(axis.hi()), 1, 1e-9);
                EXPECT_LE(axis.ticks(5).size(), 20u);
            }
        }
    }
}

TEST(Decimate, KeepsEveryExtremeInOrder) {
    std::vector<Point> points;
    for (int i = 0; i < 1000; ++i) points.push_back({i * 0.01, std::sin(i * 0.7)});
    points[555].y = 50;
    points[556].y = -50;
    const std::vector<Point> kept = decimate(points, 1);
    EXPECT_EQ(kept.size(), 20u);
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end(),
                               [](const Point& a, const Point& b) { return a.x < b.x; }));
    EXPECT_NE(std::find(kept.begin(), kept.end(), points[555]), kept.end());
    EXPECT_NE(std::find(kept.begin(), kept.end(), points[556]), kept.end());
    const std::vector<Point> sparse = {{0, 1}, {5, 2}, {9, 3}};
    EXPECT_EQ(decimate(sparse, 1), sparse);
    EXPECT_TRUE(decimate({}, 1).empty());
}

TEST(Decimate, KeepsOnePointPerGap) {
    const double nan = std::nan("");
    const std::vector<Point> points = {{0, nan}, {1, 1}, {2, nan}, {3, nan}, {4, 2}};
    const std::vector<Point> kept = decimate(points, 10);
    ASSERT_EQ(kept.size(), 4u);
    EXPECT_TRUE(std::isnan(kept[0].y));
    EXPECT_EQ(kept[1], points[1]);
    EXPECT_TRUE(std::isnan(kept[2].y));
    EXPECT_EQ(kept[3], points[4]);
}

TEST(Smooth, TakesOutNoiseAndKeepsTheCourse) {
    std::vector<Point> points;
    for (int i = 0; i < 2000; ++i) points.push_back({double(i), 3 + (i % 2 ? 0.5 : -0.5)});
    const std::vector<Point> out = smooth(points);
    ASSERT_EQ(out.size(), points.size());
    EXPECT_EQ(out[0], points[0]);  // no neighbours before the first step
    for (std::size_t i = 500; i < 1950; ++i) EXPECT_NEAR(out[i].y, 3, 0.02);

    points[1000].y = std::nan("");
    points[1001].y = 1e300;
    EXPECT_NEAR(smooth(points)[1000].y, 3, 0.05);
    EXPECT_NEAR(smooth(points)[1900].y, 3, 0.02);
    EXPECT_TRUE(std::isnan(smooth(std::vector<Point>{{0, std::nan("")}})[0].y));
}

TEST(RenderSvg, BreaksCurvesAtGapsAndMarksThem) {
    Chart chart{.id = "x",
                .title = "a < b",
                .description = "d & e",
                .y_label = "y",
                .x = Axis(0, 4),
                .y = Axis(0, 4),
                .series = {}};
    const std::vector<Point> points = {{0, 1}, {1, 2}, {2, std::nan("")}, {3, 2}, {4, 1}};
    chart.series = {{.name = "r", .style = 9, .faint = points, .line = points, .marks = {{3, 3}}}};
    const std::string svg = render_svg(chart);
    EXPECT_NE(svg.find("<title id='x-t'>a &lt; b</title><desc id='x-d'>d &amp; e</desc>"),
              std::string::npos);
    // 52 to 456 and 208 to 26 are the frame's pixels.
    EXPECT_NE(svg.find("<path class='line c1 d1' data-name='r' "
                       "d='M52.0 162.5 153.0 117.0M355.0 117.0 456.0 162.5'/>"),
              std::string::npos)
        << svg;
    EXPECT_NE(svg.find("<path class='bad' d='M250.0 28.0"), std::string::npos);
    EXPECT_NE(svg.find("<path d='M351.8 68.3h6.4v6.4h-6.4z'/>"), std::string::npos);
}

}  // namespace
}  // namespace octavo
