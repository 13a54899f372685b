// octavo export: a model for inference in 8 bits, without the spikes of aligned SwiGLU channels.
#include <fmt/format.h>

#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "train/export_folded.h"

namespace octavo {
namespace {

int run_export(const Args& args) {
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    const auto layers = export_folded({.model = find_model(args.operands()[0]).path,
                                       .tokens = args.flag<std::string>("tokens"),
                                       .out = args.flag<std::string>("out"),
                                       .batches = args.flag<std::int64_t>("batches"),
                                       .batch = args.flag<std::int64_t>("batch"),
                                       .seq = args.flag<std::int64_t>("seq")},
                                      *backend);
    fmt::print("factors of channels: up_proj is divided by them, down_proj multiplied\n");
    for (const FoldedLayer& l : layers)
        fmt::print("  {}  {:g} to {:g}\n", l.layer, l.least, l.most);
    return 0;
}

}  // namespace

Verb export_verb() {
    return {
        .name = "export",
        .help = "A Hugging Face folder whose SwiGLU channels have about the same range.",
        .run = run_export,
        .operands = {.name = "MODEL", .min = 1, .max = 1},
        .flags = {
            {.name = "tokens",
             .initial = std::string(),
             .help = "token file that the channels' ranges are measured on",
             .required = true},
            {.name = "out", .initial = std::string(), .help = "folder to make", .required = true},
            {.name = "batches",
             .initial = std::int64_t{16},
             .help = "batches to measure",
             .rule = between(1, 1 << 20)},
            {.name = "batch",
             .initial = std::int64_t{8},
             .help = "sequences of a batch",
             .rule = between(1, 1 << 16)},
            {.name = "seq",
             .initial = std::int64_t{256},
             .help = "length of a sequence, in tokens",
             .rule = between(1, 1 << 24)},
            {.name = "backend",
             .initial = std::string("auto"),
             .help = "where to compute",
             .rule = one_of({"auto", "cpu", "cuda"})}}};
}

}  // namespace octavo
