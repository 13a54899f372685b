#include "report/report.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "report/cast_figures.h"
#include "report/figures.h"
#include "report/layer_figures.h"
#include "report/page.h"
#include "report/text.h"

namespace octavo {
namespace {

constexpr std::size_t kMaxExtras = 12;
constexpr std::size_t kHeatColumns = 60;  // of all runs together
constexpr std::size_t kMaxHeatRuns = 4;
constexpr std::size_t kMaxFindings = 3;  // more are read better in the table

template <class... Args>
void put(std::string& out, fmt::format_string<Args...> text, Args&&... args) {
    fmt::format_to(std::back_inserter(out), text, std::forward<Args>(args)...);
}

// Runs of one name would be told apart by nothing in a legend.
std::vector<RunData> with_unique_names(std::span<const RunData> runs) {
    std::vector<RunData> out(runs.begin(), runs.end());
    std::set<std::string> taken;
    for (RunData& run : out) {
        const std::string name = run.info.name;
        for (int i = 2; !taken.insert(run.info.name).second; ++i) {
            run.info.name = fmt::format("{} ({})", name, i);
        }
    }
    return out;
}

std::string heading(std::span<const RunData> runs) {
    std::string names = runs[0].info.name;
    if (runs.size() > 4) return fmt::format("{} and {} more runs", names, runs.size() - 1);
    for (const RunData& run : runs.subspan(1)) {
        names += (&run == &runs.back() ? " and " : ", ") + run.info.name;
    }
    return names;
}

std::string subheading(const RunData& run) {
    std::string text = run.info.model;
    if (run.info.parameters > 0) {
        put(text, "{}{} parameters", text.empty() ? "" : ", ",
            format_compact(double(run.info.parameters)));
    }
    const double end = run.steps.back().time_s;
    if (end > 0 && end < 1e11) {
        put(text, "{}last step {:%Y-%m-%d %H:%M} UTC", text.empty() ? "" : " · ",
            fmt::gmtime(static_cast<std::time_t>(end)));
    }
    return text;
}

// "fp8-lm ends at a held-out loss of 2.4101, 0.37 % above bf16, at 1.16 times its tokens/s."
std::string finding(const RunSummary& run, const RunSummary& first) {
    const bool held_out = run.held_out_loss && first.held_out_loss;
    const double loss = held_out ? *run.held_out_loss : run.train_loss;
    const double reference = held_out ? *first.held_out_loss : first.train_loss;
    std::string text = fmt::format("{} ends at a {} loss of {}", run.name,
                                   held_out ? "held-out" : "train", format_loss(loss));
    const double change = 100 * (loss - reference) / reference;
    if (std::isfinite(change)) {
        put(text, ", {:.2f} % {} {}", std::abs(change), change < 0 ? "below" : "above", first.name);
    }
    if (const double speed = run.tokens_per_s / first.tokens_per_s; std::isfinite(speed)) {
        put(text, ", at {:.2f} times its tokens/s", speed);
    }
    if (run.state_bytes > 0 && first.state_bytes > 0 && run.state_bytes != first.state_bytes) {
        put(text, " and with {:.2f} times its state",
            double(run.state_bytes) / double(first.state_bytes));
    }
    return text + ".";
}

struct Cell {
    const char* title;
    std::string value, change;
};

std::vector<Cell> table_row(const RunSummary& run, const RunSummary& first, bool recipes) {
    const auto change = [&](double value, double reference) {
        return &run == &first ? "" : format_percent_change(value, reference);
    };
    const double nan = std::nan("");
    const double bytes = double(run.state_bytes), first_bytes = double(first.state_bytes);
    std::vector<Cell> cells;
    if (recipes) cells.push_back({"recipe", run.recipe.empty() ? "–" : run.recipe, ""});
    cells.push_back({"steps", format_count(run.steps), ""});
    cells.push_back({"tokens", format_compact(double(run.tokens)), ""});
    cells.push_back(
        {"train loss", format_loss(run.train_loss), change(run.train_loss, first.train_loss)});
    cells.push_back({"held-out loss", run.held_out_loss ? format_loss(*run.held_out_loss) : "–",
                     change(run.held_out_loss.value_or(nan), first.held_out_loss.value_or(nan))});
    cells.push_back({"tokens/s", format_compact(run.tokens_per_s),
                     change(run.tokens_per_s, first.tokens_per_s)});
    cells.push_back({"memory", fmt::format("{:.2f} GB", run.memory_gb),
                     change(run.memory_gb, first.memory_gb)});
    cells.push_back({"state", bytes > 0 ? format_bytes(run.state_bytes) : "–",
                     bytes > 0 ? change(bytes, first_bytes) : ""});
    return cells;
}

void put_table(std::string& out, const std::vector<RunSummary>& runs) {
    const RunSummary& first = runs.front();
    const bool recipes = std::any_of(runs.begin(), runs.end(), [](const RunSummary& run) {
        return !run.recipe.empty() && run.recipe != run.name;
    });
    out += "<div class='scroll'><table><caption>";
    if (runs.size() > 1) out += "Differences are to the first run. ";
    out +=
        "Train loss: mean over the last tenth of the steps, at most 100. Tokens/s: median."
        "</caption><thead><tr><th scope='col'>run</th>";
    for (const Cell& cell : table_row(first, first, recipes)) {
        put(out, "<th scope='col'>{}</th>", cell.title);
    }
    out += "</tr></thead><tbody>";
    for (std::size_t r = 0; r < runs.size(); ++r) {
        put(out, "<tr><th scope='row'>{}{}</th>", legend_mark(static_cast<int>(r)),
            html_escape(runs[r].name));
        for (Cell& cell : table_row(runs[r], first, recipes)) {
            std::string& change = cell.change;
            if (change.starts_with('-')) change.replace(0, 1, "\u2212");  // as wide as the plus
            put(out, "<td>{}", html_escape(cell.value));
            if (!change.empty()) put(out, "<small>{}</small>", change);
            out += "</td>";
        }
        out += "</tr>";
    }
    out += "</tbody></table></div>\n";
}

void put_legend(std::string& out, std::span<const RunData> runs) {
    out += "<ul class='legend'>";
    for (std::size_t r = 0; r < runs.size(); ++r) {
        put(out, "<li>{}{}</li>", legend_mark(static_cast<int>(r)), html_escape(runs[r].info.name));
    }
    out += "</ul>\n";
}

void put_loss(std::string& out, std::span<const RunData> runs) {
    const std::vector<LossView> views = loss_views(runs);
    // Radio buttons and `:checked` switch the views without a script.
    out += "<section class='loss'><h2>Loss</h2>";
    for (const LossView& view : views) {
        put(out,
            "<input type='radio' name='view' id='view-{0}'{2}><label for='view-{0}'>{1}</label>",
            view.id, view.label, &view == &views.front() ? " checked" : "");
    }
    put_legend(out, runs);
    double highest = 0;
    for (const LossView& view : views) highest = std::max(highest, view.chart.y.hi());
    for (const LossView& view : views) {
        put(out, "<div class='scroll view-{}'>{}", view.id, render_svg(view.chart));
        if (view.id != "half" && view.chart.y.hi() < highest) {
            out +=
                "<p class='note'>The steep start is cut off; the view with log steps shows it.</p>";
        }
        out += "</div>";
    }
    out +=
        "<p class='note'>Line: training loss, mean over neighbouring steps. Faint: every step "
        "(lowest and highest per pixel). Marks: held-out loss. Cross: not a finite number. Time is "
        "that of the steps, without evaluations, checkpoints and pauses.</p></section>\n";
}

void put_charts(std::string& out, const std::vector<Chart>& charts) {
    out += "<div class='grid-of-charts'>";
    for (const Chart& chart : charts) {
        put(out, "<figure><figcaption>{}</figcaption>{}</figure>", html_escape(chart.title),
            render_svg(chart));
    }
    out += "</div>\n";
}

void put_extras(std::string& out, std::span<const RunData> runs) {
    std::vector<std::string> names;
    const std::vector<Chart> charts = extra_figures(runs, kMaxExtras, names);
    if (charts.empty()) return;
    put(out, "<details><summary>{} more number{} in metrics.jsonl</summary>", names.size(),
        names.size() == 1 ? "" : "s");
    if (names.size() > charts.size()) {
        put(out, "<p class='note'>The first {} are shown.</p>", charts.size());
    }
    put_charts(out, charts);
    out += "</details>\n";
}

// What the runs asked the device for before their first step.
void put_memory(std::string& out, std::span<const RunData> runs) {
    std::vector<std::string> parts;
    std::int64_t largest = 0;
    std::vector<std::int64_t> sums;
    for (const RunData& run : runs) {
        std::int64_t& sum = sums.emplace_back(0);
        for (const auto& [part, bytes] : run.info.memory) {
            if (std::ranges::find(parts, part) == parts.end()) parts.push_back(part);
            largest = std::max(largest, bytes);
            sum += bytes;
        }
    }
    if (largest <= 0) return;
    out +=
        "<section><h2>Memory plan</h2><div class='scroll'><table class='memory'><thead><tr>"
        "<th scope='col'>part</th>";
    for (std::size_t r = 0; r < runs.size(); ++r) {
        put(out, "<th scope='col'>{}{}</th>", legend_mark(static_cast<int>(r)),
            html_escape(runs[r].info.name));
    }
    out += "</tr></thead><tbody>";
    for (const std::string& part : parts) {
        put(out, "<tr><th scope='row'>{}</th>", html_escape(part));
        for (std::size_t r = 0; r < runs.size(); ++r) {
            const auto& memory = runs[r].info.memory;
            const auto found =
                std::ranges::find(memory, part, &std::pair<std::string, std::int64_t>::first);
            const std::int64_t bytes = found == memory.end() ? 0 : found->second;
            put(out, "<td>{}<span class='bar {}' style='width: {:.1f}%'></span></td>",
                bytes > 0 ? format_bytes(bytes) : "–", style_class(static_cast<int>(r)),
                100 * double(std::max<std::int64_t>(bytes, 0)) / double(largest));
        }
        out += "</tr>";
    }
    out += "<tr><th scope='row'>total</th>";
    for (const std::int64_t sum : sums) put(out, "<td>{}</td>", sum > 0 ? format_bytes(sum) : "–");
    out += "</tr></tbody></table></div></section>\n";
}

// One below the other, so that lines can be compared.
void put_samples(std::string& out, std::span<const RunData> runs) {
    if (std::ranges::all_of(runs, [](const RunData& run) { return run.sample.empty(); })) return;
    out += "<section class='samples'><h2>Samples</h2>";
    for (std::size_t r = 0; r < runs.size(); ++r) {
        if (runs[r].sample.empty()) continue;
        put(out, "<h3>{}{}</h3><pre class='sample'>{}</pre>", legend_mark(static_cast<int>(r)),
            html_escape(runs[r].info.name), html_escape(runs[r].sample));
    }
    out += "</section>\n";
}

using MakeFigures = std::vector<CastFigure> (*)(const RunData&, std::size_t, const std::string&);

// Folded away where the page is about several runs.
void put_heat_maps(std::string& out, std::span<const RunData> runs, const char* title,
                   const char* id, MakeFigures figures_of) {
    for (std::size_t r = 0; r < runs.size() && runs.size() <= kMaxHeatRuns; ++r) {
        const auto figures =
            figures_of(runs[r], kHeatColumns / runs.size(), fmt::format("{}{}", id, r));
        if (figures.empty()) continue;
        put(out, "<section class='casts'><h2>{}{}</h2>", title,
            runs.size() > 1 ? ": " + html_escape(runs[r].info.name) : "");
        for (const CastFigure& f : figures) {
            put(out, "<details{}><summary>{}{}</summary><p class='note'>{}</p>",
                runs.size() == 1 && !f.maps.empty() ? " open" : "", html_escape(f.title),
                f.maps.empty() ? ": none" : "", html_escape(f.note));
            for (const HeatMap& map : f.maps) {
                put(out, "<div class='scroll'>{}</div>", render_svg(map));
            }
            out += "</details>\n";
        }
        out += "</section>\n";
    }
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

// Lines under their TOML table, so that `steps` of one table is not taken for that of another.
std::vector<std::string> keyed(const std::vector<std::string>& lines) {
    std::vector<std::string> keys;
    std::string table;
    for (const std::string& line : lines) {
        if (line.starts_with('[')) table = line;
        keys.push_back(table + '\n' + line);
    }
    return keys;
}

void put_config(std::string& out, const RunData& run, const RunData& first) {
    if (run.config.empty()) return;
    const auto reference = keyed(lines_of(first.config));
    const std::set<std::string> known(reference.begin(), reference.end());
    const auto lines = lines_of(run.config);
    const auto keys = keyed(lines);
    std::string text;
    bool differs = false;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        const bool same = first.config.empty() || lines[i].empty() || known.contains(keys[i]);
        const std::string line = html_escape(lines[i]);
        text += (same ? line : "<mark>" + line + "</mark>") + '\n';
        differs = differs || !same;
    }
    put(out, "<details><summary>Configuration of {}{}</summary><pre>{}</pre></details>\n",
        html_escape(run.info.name),
        differs ? fmt::format(", differences to {} marked", html_escape(first.info.name)) : "",
        text);
}

}  // namespace

std::string render_report(std::span<const RunData> given) {
    check(!given.empty(), "report: expected at least one run, got none\n{}",
          "Give the folders of the runs to show.");
    const std::vector<RunData> runs = with_unique_names(given);
    std::vector<RunSummary> summaries;
    for (const RunData& run : runs) summaries.push_back(summarise(run));

    const std::string title = html_escape(heading(runs));
    std::string out;
    out += "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\n";
    out += "<meta name='viewport' content='width=device-width, initial-scale=1'>\n";
    out += "<meta name='color-scheme' content='light dark'>\n";
    put(out, "<title>{} · Octavo</title>\n<style>{}</style></head>\n<body><main>\n", title,
        kPageStyle);
    put(out, "<header><p class='kicker'>Octavo training report</p><h1>{}</h1><p>{}</p></header>\n",
        title, html_escape(subheading(runs.front())));
    for (std::size_t r = 1; r < runs.size() && runs.size() <= kMaxFindings + 1; ++r) {
        put(out, "<p class='finding'>{}</p>\n", html_escape(finding(summaries[r], summaries[0])));
    }
    put_table(out, summaries);
    put_loss(out, runs);
    put_charts(out, side_figures(runs));
    put_samples(out, runs);
    put_memory(out, runs);
    put_heat_maps(out, runs, "Casts to 8 bits", "run", cast_figures);
    put_heat_maps(out, runs, "Feed-forward layers", "layers", layer_figures);
    put_extras(out, runs);
    for (const RunData& run : runs) put_config(out, run, runs.front());
    for (const RunData& run : runs) {
        if (!run.note.empty()) put(out, "<p class='note'>{}</p>\n", html_escape(run.note));
    }
    put(out, "</main>\n<script>{}</script>\n</body></html>\n", kPageScript);
    return out;
}

void write_report(const std::filesystem::path& path, std::span<const RunData> runs) {
    write_file_atomically(path, render_report(runs));
}

}  // namespace octavo
