// octavo train: a training run from a run file.
#include "train/trainer.h"

#include <fmt/core.h>

#include "cli/console.h"
#include "cli/device.h"
#include "cli/verbs.h"
#include "config/load.h"
#include "report/console.h"
#include "train/setup.h"
#include "train/train_program.h"

namespace octavo {
namespace {

constexpr int kInterrupted = 130;

int dry_run(const Args& args, Backend& backend) {
    const TrainProgram program(backend, step_options_of(args.config()),
                               args.config().train.grad_accum > 1);
    fmt::print("{}\n{}", to_toml(args.config()), memory_text(program));
    return 0;
}

int run_train(const Args& args) {
    const auto backend = open_backend(args.config().runtime);
    if (args.flag<bool>("dry-run")) return dry_run(args, *backend);
    bool live = false;  // a progress line is on the screen
    TrainOutput out;
    out.color = use_color(stdout);
    out.print = [&](std::string_view line) {
        fmt::print("{}{}\n", live ? kEraseLine : "", line);
        live = false;
        std::fflush(stdout);
    };
    if (is_terminal(stdout)) {
        out.progress = [&](std::string_view what, std::int64_t done, std::int64_t total) {
            fmt::print("{}{}", kEraseLine, progress_line(what, done, total, 78));
            live = true;
            std::fflush(stdout);
        };
    }
    const TrainOutcome outcome =
        train(args.config(), *backend, out, args.flag<std::int64_t>("stop-after"));
    if (outcome == TrainOutcome::interrupted) return kInterrupted;
    fmt::print("report: {}/report.html\n", args.config().run.dir);
    return 0;
}

}  // namespace

Verb train_verb() {
    return {.name = "train",
            .help = "Trains a model as a run file says; resumes if the run has a checkpoint.",
            .run = run_train,
            .config = true,
            .flags = {{.name = "dry-run",
                       .initial = false,
                       .help = "print the resolved config and the memory table, and stop"},
                      {.name = "stop-after",
                       .initial = std::int64_t{0},
                       .help = "stop as if interrupted after this many steps; 0: train to the end",
                       .rule = at_least(0)}},
            .shorthands = {{"model", "model.preset"}, {"recipe", "recipe.name"}}};
}

}  // namespace octavo
