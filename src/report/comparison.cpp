// The table that ends a comparison on the terminal.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "report/run.h"
#include "report/text.h"

namespace octavo {
namespace {

using Row = std::vector<std::string>;

std::string held_out(const RunSummary& run) {
    return run.held_out_loss ? format_loss(*run.held_out_loss) : "-";
}

std::string speed(const RunSummary& run) {
    const bool known = std::isfinite(run.tokens_per_s);
    return known ? format_count(std::llround(run.tokens_per_s)) : "-";
}

std::string megabytes(const RunSummary& run) {
    return run.state_bytes > 0 ? fmt::format("{:.1f}", double(run.state_bytes) / 1e6) : "-";
}

// Each column of differences stands right of its values and has no title of its own.
Row row(const RunSummary& run, const RunSummary& first, bool names) {
    const auto change = [&](double value, double reference) {
        return &run == &first ? "" : format_percent_change(value, reference);
    };
    const double nan = std::nan("");
    Row cells = {
        run.recipe.empty() ? "-" : run.recipe,
        format_loss(run.train_loss),
        change(run.train_loss, first.train_loss),
        held_out(run),
        change(run.held_out_loss.value_or(nan), first.held_out_loss.value_or(nan)),
        speed(run),
        change(run.tokens_per_s, first.tokens_per_s),
        megabytes(run),
        run.state_bytes > 0 ? change(double(run.state_bytes), double(first.state_bytes)) : ""};
    if (names) cells.insert(cells.begin(), run.name);
    return cells;
}

}  // namespace

std::string comparison_table(std::span<const RunSummary> runs) {
    check(!runs.empty(), "comparison table: expected at least one run, got none");
    const bool names = std::any_of(runs.begin(), runs.end(),
                                   [](const RunSummary& run) { return run.name != run.recipe; });
    std::vector<Row> rows = {
        {"recipe", "train loss", "", "held-out loss", "", "tokens/s", "", "state MB", ""}};
    if (names) rows[0].insert(rows[0].begin(), "run");
    for (const RunSummary& run : runs) rows.push_back(row(run, runs.front(), names));

    std::vector<std::size_t> widths(rows[0].size());
    for (const Row& cells : rows) {
        for (std::size_t c = 0; c < cells.size(); ++c) {
            widths[c] = std::max(widths[c], cells[c].size());
        }
    }
    const std::size_t left = names ? 2 : 1;  // text to the left, numbers to the right
    std::string table;
    for (const Row& cells : rows) {
        std::string line;
        for (std::size_t c = 0; c < cells.size(); ++c) {
            if (widths[c] == 0) continue;
            const bool difference = c >= left && (c - left) % 2 == 1;
            if (c > 0) line += difference ? " " : "   ";
            line += c < left ? fmt::format("{:<{}}", cells[c], widths[c])
                             : fmt::format("{:>{}}", cells[c], widths[c]);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        table += line + '\n';
        if (&cells == &rows.front()) table += std::string(line.size(), '-') + '\n';
    }
    return table;
}

}  // namespace octavo
