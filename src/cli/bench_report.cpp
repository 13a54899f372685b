#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/parallel.h"
#include "base/version.h"
#include "cli/device.h"
#include "cli/machine.h"
#include "config/schema.h"
#include "runtime/roofline.h"

namespace octavo {

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
    return values[values.size() / 2];
}

Json machine_facts(const Backend& backend) {
    Json j{{"octavo", kVersion},
           {"backend", backend.name()},
           {"processor", processor_name()},
           {"threads", thread_count()}};
    if (backend.name() == "cpu") return j;
    for (const auto& [name, value] : gpu_facts()) j[name] = value;
    return j;
}

Json options_of(const RunConfig& config) {
    // Not of the recipe, or fields of every result.
    constexpr std::string_view kElsewhere[] = {"recipe.name", "runtime.backend", "runtime.threads",
                                               "runtime.recompute", "runtime.memory_limit_gb"};
    const RunConfig plain;
    Json options = Json::object();
    for (const Key& key : schema()) {
        const std::string_view section = std::string_view(key.name).substr(0, key.name.find('.'));
        const bool counts = section == "recipe" || section == "smooth" || section == "optimizer" ||
                            section == "runtime";
        if (!counts || std::ranges::count(kElsewhere, key.name) > 0) continue;
        const ConfigValue value = key.get(config);
        if (value == key.get(plain)) continue;
        std::visit([&](const auto& v) { options[key.name] = v; }, value);
    }
    return options;
}

Flag json_flag() {
    return {.name = "json",
            .initial = std::string(),
            .help = "file that the result is appended to, as a JSON line"};
}

void append_result(const Args& args, const Json& result) {
    const auto& path = args.flag<std::string>("json");
    if (path.empty()) return;
    const std::string before = std::filesystem::exists(path) ? read_file(path) : "";
    write_file_atomically(path, before + result.dump() + "\n");
}

namespace {

// What a breakdown adds up: "matmul wgrad" in the results, with extents and kernel on the screen.
struct Names {
    std::string op, line;
};

Names names_of(const Graph& g, const Node& n, std::string_view kernel) {
    std::string op(op_name(n.op)), extents;
    if (const auto* m = std::get_if<Matmul>(&n.op)) {
        static constexpr std::string_view kKinds[] = {"", " fprop", " dgrad", " wgrad"};
        const Shape &a = g.type(n.in[0]).shape, &c = g.type(n.out[0]).shape;
        op += kKinds[static_cast<int>(m->kind)];
        extents =
            fmt::format(" {} x {} x {}", c.rows(), c.last(), m->trans_a ? a.rows() : a.last());
    }
    return {op, fmt::format("{}{} ({})", op, extents, kernel)};
}

}  // namespace

Json print_breakdown(Backend& backend, Plan& plan, std::string_view title) {
    std::vector<std::int32_t> nodes;
    const auto stopwatch = backend.make_stopwatch();
    backend.synchronize();
    stopwatch->mark();
    plan.run([&](std::int32_t i) {
        stopwatch->mark();
        nodes.push_back(i);
    });
    const std::vector<double> seconds = stopwatch->intervals();
    struct Row {
        double time = 0, flops = 0, bytes = 0;
        int calls = 0;
    };
    std::map<std::string, Row> rows;
    std::map<std::string, double> by_op;
    double sum = 0;
    const Graph& g = plan.graph();
    for (std::size_t k = 0; k < nodes.size(); ++k) {
        const Node& node = g.node(nodes[k]);
        const Names names = names_of(g, node, plan.choice(nodes[k]).kernel);
        Row& row = rows[names.line];
        row.time += seconds[k];
        const Work work = work_of(g, node);
        row.flops += work.flops;
        row.bytes += work.bytes;
        ++row.calls;
        by_op[names.op] += seconds[k] * 1e3;
        sum += seconds[k];
    }
    std::vector<std::pair<std::string, Row>> order(rows.begin(), rows.end());
    std::ranges::sort(order, std::greater{}, [](const auto& entry) { return entry.second.time; });
    fmt::print("{}: {:.1f} ms\n", title, sum * 1e3);
    for (const auto& [name, row] : order) {
        const std::string rate = row.flops > 0
                                     ? fmt::format("{:.3g} TFLOP/s", row.flops / row.time * 1e-12)
                                     : fmt::format("{:.3g} GB/s", row.bytes / row.time * 1e-9);
        fmt::print("  {:>9.2f} ms {:>5.1f} %  {:<56} {:>5} calls  {}\n", row.time * 1e3,
                   100 * row.time / sum, name, row.calls, rate);
    }
    for (auto& [op, ms] : by_op) ms = std::round(ms * 1e3) / 1e3;
    return by_op;
}

}  // namespace octavo
