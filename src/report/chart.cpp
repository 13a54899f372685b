#include "report/chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "report/text.h"

namespace octavo {
namespace {

constexpr std::string_view kStep = "step";
constexpr int kColors = 8;
constexpr double kMarkSpacing = 16;  // pixels between markers of one series
constexpr double kLabelHeight = 15;
constexpr std::size_t kMaxLabel = 16;  // characters of a name beside a line

struct Frame {
    double left, top, width, height;
    const Chart& chart;

    double right() const { return left + width; }
    double bottom() const { return top + height; }
    double x(double value) const { return left + width * chart.x.at(value); }
    double y(double value) const { return top + height * (1 - chart.y.at(value)); }
};

template <class... Args>
void put(std::string& out, fmt::format_string<Args...> text, Args&&... args) {
    fmt::format_to(std::back_inserter(out), text, std::forward<Args>(args)...);
}

// In pixels, those points whose x is on the axis.
std::vector<Point> project(const std::vector<Point>& points, const Frame& frame) {
    const Axis& axis = frame.chart.x;
    const auto first = std::lower_bound(points.begin(), points.end(), axis.lo(),
                                        [](const Point& p, double lo) { return p.x < lo; });
    const auto last = std::upper_bound(first, points.end(), axis.hi(),
                                       [](double hi, const Point& p) { return hi < p.x; });
    std::vector<Point> out;
    for (auto p = first; p != last; ++p) out.push_back({frame.x(p->x), frame.y(p->y)});
    return out;
}

// Far outside the frame is as good as just outside, and shorter.
double clamp_y(double y, const Frame& frame) {
    return std::clamp(y, frame.top - frame.height, frame.bottom() + frame.height);
}

std::string path_data(const std::vector<Point>& points, const Frame& frame) {
    std::string data;
    bool pen_down = false;
    for (const Point& p : points) {
        if (std::isfinite(p.y)) {
            put(data, "{}{:.1f} {:.1f}", pen_down ? " " : "M", p.x, clamp_y(p.y, frame));
        }
        pen_down = std::isfinite(p.y);
    }
    return data;
}

std::string mark_shape(double x, double y, int style) {
    switch (style % 4) {
        case 0:
            return fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='3.6'/>", x, y);
        case 1:
            return fmt::format("<path d='M{:.1f} {:.1f}h6.4v6.4h-6.4z'/>", x - 3.2, y - 3.2);
        case 2:
            return fmt::format("<path d='M{:.1f} {:.1f}l4.2 7.2h-8.4z'/>", x, y - 4.6);
        default:
            return fmt::format("<path d='M{:.1f} {:.1f}l4.4 4.4-4.4 4.4-4.4-4.4z'/>", x, y - 4.4);
    }
}

void put_grid(std::string& out, const Frame& frame) {
    const Chart& chart = frame.chart;
    std::string lines, labels;
    for (const Tick& tick : chart.y.ticks(chart.height > 300 ? 7 : 5)) {
        const double y = frame.y(tick.value);
        put(lines, "M{:.1f} {:.1f}H{:.1f}", frame.left, y, frame.right());
        put(labels, "<text x='{:.1f}' y='{:.1f}' text-anchor='end'>{}</text>", frame.left - 8,
            y + 4, tick.label);
    }
    for (const Tick& tick : chart.x.ticks(chart.width > 600 ? 8 : 5)) {
        if (chart.x_label == kStep && tick.value != std::round(tick.value)) continue;
        const double x = frame.x(tick.value);
        put(lines, "M{:.1f} {:.1f}v5", x, frame.bottom());
        put(labels, "<text x='{:.1f}' y='{:.1f}' text-anchor='middle'>{}</text>", x,
            frame.bottom() + 19, tick.label);
    }
    put(labels, "<text class='name' x='{:.1f}' y='{:.1f}' text-anchor='end'>{}</text>",
        frame.right(), frame.bottom() + 35, html_escape(chart.x_label));
    put(labels, "<text class='name' x='2' y='13'>{}</text>", html_escape(chart.y_label));
    put(out, "<path class='grid' d='{}'/><path class='axis' d='M{:.1f} {:.1f}H{:.1f}'/>", lines,
        frame.left, frame.bottom(), frame.right());
    if (chart.zero_line && chart.y.lo() <= 0 && chart.y.hi() >= 0) {
        put(out, "<path class='axis' d='M{:.1f} {:.1f}H{:.1f}'/>", frame.left, frame.y(0),
            frame.right());
    }
    put(out, "<g class='labels'>{}</g>", labels);
}

// A cross at the upper edge where a curve that should be finite is not.
void put_gaps(std::string& out, const std::vector<Point>& points, const Frame& frame) {
    for (const Point& p : points) {
        if (std::isfinite(p.y)) continue;
        put(out, "<path class='bad' d='M{:.1f} {:.1f}l8 8m0-8l-8 8'/>", p.x - 4, frame.top + 2);
    }
}

void put_line(std::string& out, const ChartSeries& series, const Frame& frame) {
    const auto line = decimate(project(series.line, frame), frame.chart.bucket);
    const auto marks = project(series.marks, frame);
    const std::string style = style_class(series.style);
    if (line.size() > 1) {
        put(out, "<path class='line {}' data-name='{}' d='{}'/>", style, html_escape(series.name),
            path_data(line, frame));
    } else if (line.size() == 1 && std::isfinite(line[0].y)) {
        put(out, "<circle class='dot {}' cx='{:.1f}' cy='{:.1f}' r='3'/>", style, line[0].x,
            line[0].y);
    }
    if (marks.size() > 1) {
        put(out, "<path class='held {}' d='{}'/>", style,
            path_data(decimate(marks, frame.chart.bucket), frame));
    }
}

void put_marks(std::string& out, const ChartSeries& series, const Frame& frame) {
    const auto marks = project(series.marks, frame);
    put(out, "<g class='mark {}'>", style_class(series.style));
    double next = frame.left - 1;
    for (const Point& p : marks) {
        const bool inside = p.y >= frame.top && p.y <= frame.bottom();
        if (!inside || (p.x < next && &p != &marks.back())) continue;
        out += mark_shape(p.x, p.y, series.style);
        next = p.x + kMarkSpacing;
    }
    out += "</g>";
}

// In layers over all series: what is faint in one must not cover the line of another.
void put_curves(std::string& out, const Frame& frame) {
    const std::vector<ChartSeries>& all = frame.chart.series;
    std::string gaps;
    put(out, "<g clip-path='url(#{}-clip)'>", frame.chart.id);
    for (const ChartSeries& series : all) {
        const auto faint = decimate(project(series.faint, frame), frame.chart.bucket);
        put_gaps(gaps, faint, frame);
        if (faint.size() < 2) continue;
        put(out, "<path class='faint {}' d='{}'/>", style_class(series.style),
            path_data(faint, frame));
    }
    for (const ChartSeries& series : all) put_line(out, series, frame);
    out += "</g>" + gaps;
    for (const ChartSeries& series : all) put_marks(out, series, frame);
}

std::string end_label(const ChartSeries& series) {
    const std::string& name = series.name;
    if (name.size() <= kMaxLabel) return name;
    std::size_t cut = kMaxLabel - 1;  // between characters, not inside one
    while (cut > 0 && (static_cast<unsigned char>(name[cut]) & 0xc0) == 0x80) --cut;
    return name.substr(0, cut) + "…";
}

double right_margin(const Chart& chart) {
    if (!chart.end_labels) return 14;
    std::size_t longest = 0;
    for (const ChartSeries& series : chart.series) {
        longest = std::max(longest, std::min(series.name.size(), kMaxLabel));
    }
    return 18 + 8 * static_cast<double>(longest);
}

// Names beside the ends of their lines, moved apart where they would overlap.
void put_end_labels(std::string& out, const Frame& frame) {
    struct Label {
        const ChartSeries* series;
        double x, y;
    };
    std::vector<Label> labels;
    for (const ChartSeries& series : frame.chart.series) {
        const auto line = project(series.line, frame);
        const auto end = std::find_if(line.rbegin(), line.rend(),
                                      [](const Point& p) { return std::isfinite(p.y); });
        if (end == line.rend()) continue;
        labels.push_back({&series, end->x, std::clamp(end->y, frame.top, frame.bottom())});
    }
    std::stable_sort(labels.begin(), labels.end(),
                     [](const Label& a, const Label& b) { return a.y < b.y; });
    std::vector<double> places;
    for (const Label& label : labels) {
        places.push_back(places.empty() ? label.y
                                        : std::max(label.y, places.back() + kLabelHeight));
    }
    double limit = frame.bottom();
    for (std::size_t i = places.size(); i-- > 0; limit = places[i] - kLabelHeight) {
        places[i] = std::min(places[i], limit);
    }
    for (std::size_t i = 0; i < labels.size(); ++i) {
        const std::string name = end_label(*labels[i].series);
        put(out, "<text class='end {}' x='{:.1f}' y='{:.1f}'>{}</text>",
            style_class(labels[i].series->style), labels[i].x + 10, places[i] + 4,
            html_escape(name));
    }
}

}  // namespace

std::string style_class(int style) {
    std::string name = fmt::format("c{}", style % kColors);
    if (style >= kColors) name += fmt::format(" d{}", style / kColors % 3);
    return name;
}

std::string legend_mark(int style) {
    return fmt::format(
        "<svg class='key {}' viewBox='0 0 28 12' width='28' height='12' aria-hidden='true'>"
        "<path class='line' d='M1 6H27'/><g class='mark'>{}</g></svg>",
        style_class(style), mark_shape(14, 6, style));
}

std::string render_svg(const Chart& chart) {
    const double left = 52, top = 26, right = right_margin(chart), bottom = 42;
    const Frame frame{left, top, chart.width - left - right, chart.height - top - bottom, chart};
    std::string out;
    put(out,
        "<svg class='chart' viewBox='0 0 {} {}' role='img' aria-labelledby='{}-t {}-d' "
        "data-unit='{}' data-x='{} {} {:d}' data-y='{} {} {:d}' data-box='{} {} {} {}'>",
        chart.width, chart.height, chart.id, chart.id, html_escape(chart.x_label), chart.x.lo(),
        chart.x.hi(), chart.x.log(), chart.y.lo(), chart.y.hi(), chart.y.log(), frame.left,
        frame.top, frame.width, frame.height);
    put(out, "<title id='{}-t'>{}</title><desc id='{}-d'>{}</desc>", chart.id,
        html_escape(chart.title), chart.id, html_escape(chart.description));
    put(out,
        "<clipPath id='{}-clip'><rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}'/>"
        "</clipPath>",
        chart.id, frame.left, frame.top - 2, frame.width, frame.height + 4);
    put_grid(out, frame);
    put_curves(out, frame);
    if (chart.end_labels) put_end_labels(out, frame);
    out += "</svg>\n";
    return out;
}

}  // namespace octavo
