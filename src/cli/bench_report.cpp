#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/parallel.h"
#include "base/version.h"
#include "cli/device.h"
#include "cli/machine.h"

namespace octavo {

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

// What a breakdown adds up under one line: an op, a product by its kind and extents too.
struct Work {
    std::string name;
    double flops = 0;  // of products, which have a rate
};

Work work_of(const Graph& g, const Node& n, std::string_view kernel) {
    Work work{std::string(op_name(n.op))};
    if (const auto* m = std::get_if<Matmul>(&n.op)) {
        static constexpr std::string_view kKinds[] = {"", " fprop", " dgrad", " wgrad"};
        const Type &a = g.type(n.in[0]), &c = g.type(n.out[0]);
        const std::int64_t rows = c.shape.rows(), columns = c.shape.last();
        const std::int64_t k = m->trans_a ? a.shape.rows() : a.shape.last();
        work.name +=
            fmt::format("{} {} x {} x {}", kKinds[static_cast<int>(m->kind)], rows, columns, k);
        work.flops =
            2.0 * static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(k);
    }
    work.name += fmt::format(" ({})", kernel);
    return work;
}

}  // namespace

void print_breakdown(Backend& backend, Plan& plan, std::string_view title) {
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
        double time = 0, flops = 0;
        int calls = 0;
    };
    std::map<std::string, Row> rows;
    double sum = 0;
    for (std::size_t k = 0; k < nodes.size(); ++k) {
        const Work work =
            work_of(plan.graph(), plan.graph().node(nodes[k]), plan.choice(nodes[k]).kernel);
        Row& row = rows[work.name];
        row.time += seconds[k];
        row.flops += work.flops;
        ++row.calls;
        sum += seconds[k];
    }
    std::vector<std::pair<std::string, Row>> order(rows.begin(), rows.end());
    std::ranges::sort(order, std::greater{}, [](const auto& entry) { return entry.second.time; });
    fmt::print("{}: {:.1f} ms\n", title, sum * 1e3);
    for (const auto& [name, row] : order) {
        const std::string rate =
            row.flops > 0 ? fmt::format("{:.1f} TFLOP/s", row.flops / row.time * 1e-12) : "";
        fmt::print("  {:>9.2f} ms {:>5.1f} %  {:<56} {:>5} calls  {}\n", row.time * 1e3,
                   100 * row.time / sum, name, row.calls, rate);
    }
}

}  // namespace octavo
