#include "cli/bench_load.h"

#include <fmt/format.h>

#include <chrono>

#include "cli/bench_report.h"
#include "cli/device.h"
#include "models/model.h"
#include "models/stored_weights.h"
#include "models/weights.h"
#include "train/setup.h"

namespace octavo {
namespace {

using Clock = std::chrono::steady_clock;

std::int64_t stored_bytes(const std::filesystem::path& folder) {
    const StoredWeights weights(folder);
    std::int64_t bytes = 0;
    for (const std::string& name : weights.names()) {
        const StoredWeight w = *weights.find(name);
        bytes += std::ssize(w.tensor.bytes) + (w.scale ? std::ssize(w.scale->bytes) : 0);
    }
    return bytes;
}

int bench_load(const Args& args) {
    const RunConfig& config = args.config();
    if (config.model.path.empty()) fail_usage("bench load: expected --model FOLDER, got none");
    const Architecture arch = architecture_of(config);
    const Dtype dtype = *dtype_named(args.flag<std::string>("as"));
    const auto backend = open_backend(config.runtime);
    const auto size = static_cast<std::int64_t>(size_of(dtype));
    const Buffer memory(*backend, parameter_count(arch) * size);
    std::vector<WeightTarget> targets;
    std::int64_t at = 0;
    for (const Parameter& p : parameters(arch)) {
        const auto write = [&, to = memory.data() + at](std::span<const std::byte> values) {
            backend->copy_in(to, values.data(), std::ssize(values));
        };
        targets.push_back({p.name, p.shape, dtype, write});
        at += p.shape.elements() * size;
    }

    const auto start = Clock::now();
    load_weights(config.model.path, targets);
    backend->synchronize();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const auto stored = static_cast<double>(stored_bytes(config.model.path));
    fmt::print("{:<24} {:.3f} GB as {} in {:.2f} s\n{:<24} {:.3f} GB/s of the files\n", "loaded",
               static_cast<double>(at) * 1e-9, name(dtype), seconds, "rate",
               stored * 1e-9 / seconds);
    Json j = machine_facts(*backend);
    j["bench"] = "load";
    j["model"] = describe(arch);
    j["as"] = name(dtype);
    j["stored_gb"] = stored * 1e-9;
    j["seconds"] = seconds;
    append_result(args, j);
    return 0;
}

}  // namespace

Verb bench_load_verb() {
    return {.name = "load",
            .help =
                "The weights of a Hugging Face folder into memory. Whether the disk or the "
                "system's cache is measured is decided by who has read them before.",
            .run = bench_load,
            .config = true,
            .flags = {{.name = "as",
                       .initial = std::string("bf16"),
                       .help = "what they are converted to",
                       .rule = one_of({"f32", "bf16"})},
                      json_flag()},
            .shorthands = {{"model", "model.path"}, {"backend", "runtime.backend"}}};
}

}  // namespace octavo
