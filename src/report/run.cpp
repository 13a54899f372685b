#include "report/run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace octavo {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kRunFile = "run.json";

RunInfo read_run_info(const std::filesystem::path& path) {
    const Json json = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
    try {
        RunInfo info{.name = json.at("name"),
                     .recipe = json.at("recipe"),
                     .model = json.at("model"),
                     .parameters = json.at("parameters"),
                     .state_bytes = json.at("state_bytes")};
        if (const auto memory = json.find("memory"); memory != json.end()) {
            for (const auto& [part, bytes] : memory->items()) {
                info.memory.emplace_back(part, bytes.get<std::int64_t>());
            }
        }
        return info;
    } catch (const Json::exception&) {
        fail(
            "{}: expected an object with name, recipe, model, parameters and state_bytes\n"
            "Delete the file; the report works without it.",
            path.string());
    }
}

double median(std::vector<double> values) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 == 1) return *middle;
    return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace

void write_run_info(const std::filesystem::path& folder, const RunInfo& info) {
    Json json;
    json["name"] = info.name;
    json["recipe"] = info.recipe;
    json["model"] = info.model;
    json["parameters"] = info.parameters;
    json["state_bytes"] = info.state_bytes;
    for (const auto& [part, bytes] : info.memory) json["memory"][part] = bytes;
    write_file_atomically(folder / kRunFile,
                          json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
}

RunData load_run(const std::filesystem::path& folder) {
    const std::filesystem::path metrics = folder / "metrics.jsonl";
    check(std::filesystem::is_directory(folder), "{}: expected the folder of a run, got {}\n{}",
          folder.string(), std::filesystem::exists(folder) ? "a file" : "nothing there",
          "Give the folder that `octavo train` wrote, with metrics.jsonl in it.");
    check(std::filesystem::exists(metrics), "{}: expected metrics.jsonl in the folder of a run\n{}",
          folder.string(), "Give the folder that `octavo train` wrote.");
    RunData run;
    MetricsFile file = read_metrics(metrics);
    check(!file.steps.empty(), "{}: no step was recorded yet\nTrain for at least one step.",
          metrics.string());
    run.steps = std::move(file.steps);
    run.note = std::move(file.note);
    if (const auto scales = folder / "scales.jsonl"; std::filesystem::exists(scales)) {
        ScalesFile casts = read_scales(scales);
        run.casts = std::move(casts.steps);
        if (run.note.empty()) run.note = std::move(casts.note);
    }
    if (std::filesystem::exists(folder / kRunFile)) run.info = read_run_info(folder / kRunFile);
    if (std::filesystem::exists(folder / "config.toml")) {
        run.config = read_file(folder / "config.toml");
    }
    if (run.info.name.empty()) {
        const auto whole = std::filesystem::absolute(folder).lexically_normal();
        run.info.name = (whole.has_filename() ? whole : whole.parent_path()).filename().string();
    }
    return run;
}

RunSummary summarise(const RunData& run) {
    check(!run.steps.empty(), "run {}: no step was recorded", run.info.name);
    const std::span<const StepMetrics> steps = run.steps;
    RunSummary summary;
    summary.name = run.info.name;
    summary.recipe = run.info.recipe;
    summary.steps = steps.back().step;
    summary.tokens = steps.back().tokens;
    summary.state_bytes = run.info.state_bytes;
    const std::size_t tail = std::clamp<std::size_t>(steps.size() / 10, 1, 100);
    for (const StepMetrics& step : steps.last(tail)) summary.train_loss += step.loss;
    summary.train_loss /= static_cast<double>(tail);
    std::vector<double> speeds;
    for (const StepMetrics& step : steps) {
        if (step.held_out_loss) summary.held_out_loss = step.held_out_loss;
        const bool counts = steps.size() == 1 || &step != &steps.front();
        if (counts && std::isfinite(step.tokens_per_s)) speeds.push_back(step.tokens_per_s);
        if (step.memory_gb > summary.memory_gb) summary.memory_gb = step.memory_gb;
    }
    summary.tokens_per_s = median(std::move(speeds));
    return summary;
}

}  // namespace octavo
