#include "report/heat_map.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "report/text.h"

namespace octavo {
namespace {

constexpr double kWidth = 960, kLeft = 34, kTop = 42, kGap = 12, kPanelMost = 220;
constexpr int kBad = kHeatLevels, kNone = kHeatLevels + 1;  // not finite; nothing to show

template <class... Args>
void put(std::string& out, fmt::format_string<Args...> text, Args&&... args) {
    fmt::format_to(std::back_inserter(out), text, std::forward<Args>(args)...);
}

int level(const Axis& colors, double value) {
    if (value == 0 && colors.log()) return kNone;
    if (!std::isfinite(value)) return kBad;
    const double at = std::clamp(colors.at(value), 0.0, 1.0);
    return std::min(static_cast<int>(at * kHeatLevels), kHeatLevels - 1);
}

// Neighbours of one colour are one stroke.
void put_cells(std::string& out, const HeatPanel& panel, const Axis& colors) {
    std::array<std::string, kHeatLevels + 1> strokes;
    for (std::size_t r = 0; r < panel.rows.size(); ++r) {
        const std::vector<double>& row = panel.rows[r];
        for (std::size_t begin = 0, end = 0; begin < row.size(); begin = end) {
            const int l = level(colors, row[begin]);
            while (end < row.size() && level(colors, row[end]) == l) ++end;
            if (l != kNone) {
                put(strokes[static_cast<std::size_t>(l)], "M{} {}h{}", begin, r, end - begin);
            }
        }
    }
    for (int l = 0; l <= kBad; ++l) {
        const std::string& d = strokes[static_cast<std::size_t>(l)];
        if (d.empty()) continue;
        put(out, "<path class='{}' d='{}'/>", l == kBad ? "hx" : fmt::format("h{}", l), d);
    }
}

struct Frame {
    std::size_t rows = 1;
    double row_height, panel_width;

    explicit Frame(const HeatMap& map) {
        for (const HeatPanel& p : map.panels) rows = std::max(rows, p.rows.size());
        row_height = std::clamp(180.0 / static_cast<double>(rows), 5.0, 16.0);
        const auto count = static_cast<double>(map.panels.size());
        panel_width = std::min(kPanelMost, (kWidth - kLeft) / count - kGap);
    }
    double height() const { return row_height * static_cast<double>(rows); }
    double left(std::size_t panel) const {
        return kLeft + static_cast<double>(panel) * (panel_width + kGap);
    }
};

void put_panel(std::string& out, const HeatMap& map, std::size_t at, const Frame& frame) {
    const HeatPanel& panel = map.panels[at];
    std::size_t columns = 1;
    for (const auto& row : panel.rows) columns = std::max(columns, row.size());
    const double left = frame.left(at), right = left + frame.panel_width;
    const double height = frame.row_height * static_cast<double>(panel.rows.size());
    put(out, "<text class='name' x='{:.1f}' y='{:.1f}'>{}</text>", left, kTop - 7,
        html_escape(panel.title));
    put(out, "<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}'/>", left, kTop,
        frame.panel_width, height);
    put(out, "<g transform='translate({:.2f} {:.2f}) scale({:.4f} {:.4f})'>", left,
        kTop + frame.row_height / 2, frame.panel_width / static_cast<double>(columns),
        frame.row_height);
    put_cells(out, panel, map.colors);
    const double below = kTop + frame.height() + 15;
    put(out, "</g><text x='{:.1f}' y='{:.1f}'>{}</text>", left, below, html_escape(map.first));
    put(out, "<text x='{:.1f}' y='{:.1f}' text-anchor='end'>{}</text>", right, below,
        html_escape(map.last));
}

void put_layers(std::string& out, const Frame& frame) {
    // A label needs the height of a few rows.
    std::size_t every = 1;
    for (const std::size_t n : {2, 5, 10, 20, 50}) {
        if (static_cast<double>(every) * frame.row_height < 14) every = n;
    }
    for (std::size_t r = 0; r < frame.rows; r += every) {
        put(out, "<text x='{:.1f}' y='{:.1f}' text-anchor='end'>{}</text>", kLeft - 8,
            kTop + (static_cast<double>(r) + 0.5) * frame.row_height + 4, r);
    }
}

// At the right of the title line: what the colours mean.
void put_key(std::string& out, const HeatMap& map) {
    constexpr double kStep = 12, kY = 12, kEnd = kWidth - kGap - 70;
    const double left = kEnd - kStep * kHeatLevels;
    put(out, "<text x='{:.1f}' y='{:.1f}' text-anchor='end'>{}</text>", left - 6, kY,
        html_escape(map.low));
    put(out, "<text x='{:.1f}' y='{:.1f}'>{}</text>", kEnd + 6, kY, html_escape(map.high));
    put(out, "<g transform='translate({:.1f} {:.1f}) scale({} 11)'>", left, kY - 4, kStep);
    for (int l = 0; l < kHeatLevels; ++l) put(out, "<path class='h{}' d='M{} 0h1'/>", l, l);
    out += "</g>";
}

}  // namespace

std::string render_svg(const HeatMap& map) {
    const Frame frame(map);
    std::string out;
    put(out, "<svg class='heat' viewBox='0 0 {} {:.0f}' role='img' aria-labelledby='{}-t {}-d'>",
        kWidth, kTop + frame.height() + 22, map.id, map.id);
    put(out, "<title id='{}-t'>{}</title><desc id='{}-d'>{}</desc>", map.id, html_escape(map.title),
        map.id, html_escape(map.description));
    put(out, "<text class='role' x='{}' y='12'>{}</text>", kLeft, html_escape(map.title));
    put_key(out, map);
    put_layers(out, frame);
    for (std::size_t p = 0; p < map.panels.size(); ++p) put_panel(out, map, p, frame);
    return out + "</svg>\n";
}

}  // namespace octavo
