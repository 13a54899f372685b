// octavo report: one page and one table from run folders.
#include "report/report.h"

#include <fmt/core.h>

#include "cli/verbs.h"

namespace octavo {
namespace {

int run_report(const Args& args) {
    std::vector<RunData> runs;
    std::vector<RunSummary> summaries;
    for (const std::string& folder : args.operands()) {
        runs.push_back(load_run(folder));
        summaries.push_back(summarise(runs.back()));
    }
    const auto& out = args.flag<std::string>("out");
    write_report(out, runs);
    fmt::print("{}report: {}\n", comparison_table(summaries), out);
    return 0;
}

}  // namespace

Verb report_verb() {
    return {
        .name = "report",
        .help = "Compares runs: a table here and a page with their curves.",
        .run = run_report,
        .operands = {.name = "RUN", .min = 1, .max = 64},
        .flags = {
            {.name = "out", .initial = std::string("report.html"), .help = "the page to write"}}};
}

}  // namespace octavo
