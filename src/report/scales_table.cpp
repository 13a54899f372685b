#include "report/scales_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace octavo {
namespace {

// A number and the step it is from.
struct At {
    double value = 0;
    std::int64_t step = 0;
};

void keep_worse(At& worst, double value, std::int64_t step) {
    if (is_worse(value, worst.value)) worst = {value, step};
}

struct Course {
    std::string tensor;
    double first = 0, last = 0;  // largest scale of the first and the last step
    double low = 0, high = 0;    // of all scales
    At amax = {}, saturated = {}, flushed = {}, error = {};

    void add(const CastStats& s, std::int64_t step, bool is_first) {
        if (is_first) {
            first = s.scale_max;
            low = s.scale_min;
        }
        last = s.scale_max;
        low = std::min<double>(low, s.scale_min);
        high = std::max<double>(high, s.scale_max);
        keep_worse(amax, s.amax, step);
        keep_worse(saturated, s.saturated, step);
        keep_worse(flushed, s.flushed, step);
        keep_worse(error, s.error, step);
    }
};

std::string log2_of(double x) { return fmt::format("{:.2f}", std::log2(x)); }
std::string percent(double x) { return x == 0 ? "0" : fmt::format("{:.3g} %", 100 * x); }
std::string percent(const At& x) {
    return x.value == 0 ? "0" : fmt::format("{} @{}", percent(x.value), x.step);
}

using Row = std::vector<std::string>;

std::string aligned(const std::vector<Row>& rows) {
    std::vector<std::size_t> widths(rows.front().size());
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const Row& row : rows) {
        text += fmt::format("{:<{}}", row[0], widths[0]);
        for (std::size_t i = 1; i < row.size(); ++i) {
            text += fmt::format("  {:>{}}", row[i], widths[i]);
        }
        text += '\n';
    }
    return text;
}

std::vector<Row> rows_of_run(const std::vector<CastStep>& steps, const std::string& part) {
    std::vector<Course> courses;
    for (const CastStep& step : steps) {
        for (const TensorCast& t : step.tensors) {
            if (t.tensor.find(part) == std::string::npos) continue;
            auto course = std::ranges::find(courses, t.tensor, &Course::tensor);
            const bool first = course == courses.end();
            if (first) course = courses.insert(course, Course{.tensor = t.tensor});
            course->add(t.stats, step.step, first);
        }
    }
    std::vector<Row> rows{
        {"tensor", "first", "last", "min", "max", "amax", "saturated", "flushed", "error"}};
    for (const Course& c : courses) {
        rows.push_back({c.tensor, log2_of(c.first), log2_of(c.last), log2_of(c.low),
                        log2_of(c.high), fmt::format("{:.4g} @{}", c.amax.value, c.amax.step),
                        percent(c.saturated), percent(c.flushed), percent(c.error)});
    }
    return rows;
}

const CastStep& step_of(const std::vector<CastStep>& steps, std::int64_t wanted) {
    const auto at = std::ranges::lower_bound(steps, wanted, {}, &CastStep::step);
    if (at != steps.end() && at->step == wanted) return *at;
    const std::string before = at == steps.begin() ? "" : fmt::format("{}", (at - 1)->step);
    const std::string after = at == steps.end() ? "" : fmt::format("{}", at->step);
    fail("step {} was not measured\n  The nearest that were: {}{}{}.", wanted, before,
         before.empty() || after.empty() ? "" : " and ", after);
}

std::vector<Row> rows_of_step(const CastStep& step, const std::string& part) {
    std::vector<Row> rows{{"tensor", "min", "max", "amax", "saturated", "flushed", "error"}};
    for (const TensorCast& t : step.tensors) {
        if (t.tensor.find(part) == std::string::npos) continue;
        const CastStats& s = t.stats;
        rows.push_back({t.tensor, log2_of(s.scale_min), log2_of(s.scale_max),
                        fmt::format("{:.4g}", s.amax), percent(s.saturated), percent(s.flushed),
                        percent(s.error)});
    }
    return rows;
}

}  // namespace

std::string scales_table(const std::vector<CastStep>& steps, const ScalesQuery& query) {
    check(!steps.empty(),
          "no step of this run was measured yet\n  The first one is, and then every "
          "diag.interval steps.");
    const std::vector<Row> rows = query.step
                                      ? rows_of_step(step_of(steps, *query.step), query.tensor)
                                      : rows_of_run(steps, query.tensor);
    check(rows.size() > 1, "no tensor has '{}' in its name\n  There is, for example, {}.",
          query.tensor, steps.back().tensors.empty() ? "none" : steps.back().tensors[0].tensor);
    const std::string head =
        query.step ? fmt::format("step {}\n", *query.step)
                   : fmt::format("{} measured steps, {} to {}; @ is the step of the worst\n",
                                 steps.size(), steps.front().step, steps.back().step);
    return head + "scales as log2 of what a code of 1 stands for\n\n" + aligned(rows);
}

std::vector<CastStep> load_scales(const std::filesystem::path& folder) {
    const auto path = folder / "scales.jsonl";
    check(std::filesystem::is_directory(folder), "{}: expected the folder of a run, got {}\n  {}",
          folder.string(), std::filesystem::exists(folder) ? "a file" : "nothing there",
          "Give the folder that `octavo train` wrote.");
    check(std::filesystem::exists(path), "{}: expected scales.jsonl in the folder of a run\n  {}",
          folder.string(),
          "Runs write it whose recipe has 8-bit tensors, with diag.interval above 0.");
    return read_scales(path).steps;
}

}  // namespace octavo
