// octavo report: one page and one table from run folders.
#include "report/report.h"

#include <fmt/core.h>

#include "base/error.h"
#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/text_engine.h"
#include "cli/verbs.h"

namespace octavo {
namespace {

// From the run's newest checkpoint; or why there is none.
std::string sample_of(const std::string& run, Backend& backend, const std::string& prompt,
                      std::int64_t tokens) {
    try {
        const ModelFolder folder = find_model(run);
        const Architecture arch = read_hf_config(folder.path);
        const auto tokenizer = matching_tokenizer(folder, arch);
        check(tokenizer != nullptr, "the run's tokens have no tokenizer");
        const auto engine =
            make_text_engine(folder, arch, backend, "", {.max_seqs = 1, .max_batched_tokens = 256});
        return sample_text(*engine, *tokenizer, prompt, true, tokens);
    } catch (const Error& error) {
        return fmt::format("(no sample: {})", error.message());
    }
}

int run_report(const Args& args) {
    std::vector<RunData> runs;
    std::vector<RunSummary> summaries;
    const auto& prompt = args.flag<std::string>("prompt");
    const auto backend =
        prompt.empty() ? nullptr : open_backend({.backend = args.flag<std::string>("backend")});
    for (const std::string& folder : args.operands()) {
        runs.push_back(load_run(folder));
        if (backend) {
            runs.back().sample =
                sample_of(folder, *backend, prompt, args.flag<std::int64_t>("tokens"));
        }
        summaries.push_back(summarise(runs.back()));
    }
    const auto& out = args.flag<std::string>("out");
    write_report(out, runs);
    fmt::print("{}report: {}\n", comparison_table(summaries), out);
    return 0;
}

}  // namespace

Verb report_verb() {
    return {.name = "report",
            .help = "Compares runs: a table here and a page with their curves.",
            .run = run_report,
            .operands = {.name = "RUN", .min = 1, .max = 64},
            .flags = {
                {.name = "out", .initial = std::string("report.html"), .help = "the page to write"},
                {.name = "prompt",
                 .initial = std::string(),
                 .help = "show how every run's newest checkpoint continues this text"},
                {.name = "tokens",
                 .initial = std::int64_t{200},
                 .help = "of a sample",
                 .rule = between(1, 1 << 20)},
                {.name = "backend",
                 .initial = std::string("auto"),
                 .help = "where to compute samples",
                 .rule = one_of({"auto", "cpu", "cuda"})}}};
}

}  // namespace octavo
