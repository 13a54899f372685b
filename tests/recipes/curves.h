// Curves of losses as an SVG image, for the docs: a line over all steps, and marks where a few
// steps have a loss of their own.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

namespace octavo::test {

struct Curve {
    std::string name, color;
    std::vector<double> line;                      // of steps 1, 2, ...
    std::vector<std::pair<double, double>> marks;  // step, loss
};

inline std::string curves_svg(const std::vector<Curve>& curves, const std::string& label,
                              double steps, double top) {
    constexpr double kLeft = 40, kTop = 30, kWidth = 700, kHeight = 300;
    const auto x = [&](double step) { return kLeft + kWidth * step / steps; };
    const auto y = [&](double loss) { return kTop + kHeight * (1 - loss / top); };
    std::string out =
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 760 370' font-family='sans-serif' "
        "font-size='12' fill='none'>\n<rect width='760' height='370' fill='white'/>\n";
    const auto text = [&](double at_x, double at_y, std::string_view anchor, std::string_view color,
                          std::string_view what) {
        out += fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='{}' fill='{}'>{}</text>\n",
                           at_x, at_y, anchor, color, what);
    };
    for (double loss = 0; loss <= top; ++loss) {
        out += fmt::format("<path d='M{:.1f} {:.1f}h{}' stroke='#ddd'/>\n", kLeft, y(loss), kWidth);
        text(kLeft - 8, y(loss) + 4, "end", "#444", fmt::format("{}", loss));
    }
    for (double step = 0; step <= steps; step += 20) {
        text(x(step), kTop + kHeight + 18, "middle", "#444", fmt::format("{}", step));
    }
    text(kLeft + kWidth, kTop + kHeight + 34, "end", "#444", "step");
    text(kLeft - 24, kTop - 14, "start", "#444", label);
    double legend = kTop + 110, radius = 6;  // later marks leave a rim of what they cover
    for (const Curve& c : curves) {
        std::string line, marks;
        for (std::size_t i = 0; i < c.line.size(); ++i) {
            line += fmt::format("{:.1f},{:.1f} ", x(static_cast<double>(i + 1)), y(c.line[i]));
        }
        out += fmt::format("<polyline points='{}' stroke='{}'/>\n", line, c.color);
        for (const auto& [step, loss] : c.marks) {
            marks += fmt::format("{:.1f},{:.1f} ", x(step), y(loss));
            out += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='{}' fill='{}'/>\n", x(step),
                               y(loss), radius, c.color);
        }
        out += fmt::format("<polyline points='{}' stroke='{}' stroke-dasharray='4 4'/>\n", marks,
                           c.color);
        text(kLeft + kWidth - 4, legend, "end", c.color, c.name);
        legend += 17;
        radius -= 1;
    }
    return out + "</svg>\n";
}

}  // namespace octavo::test
