#include "runtime/gemm_rate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/convert.h"
#include "base/rng.h"
#include "graph/builder.h"
#include "runtime/program.h"
#include "runtime/random_fill.h"

namespace octavo {
namespace {

Type operand(Dtype dtype, const Scaling& scaling, std::int64_t rows, std::int64_t columns) {
    return {dtype, {rows, columns}, is_fp8(dtype) ? scaling : kUnscaled};
}

std::vector<float> read_values(Backend& backend, const TensorRef& t) {
    std::vector<std::byte> codes(static_cast<std::size_t>(data_bytes(t.type)));
    backend.copy_out(codes.data(), t.as<std::byte>(), std::ssize(codes));
    std::vector<float> values(static_cast<std::size_t>(t.type.shape.elements()));
    convert(codes, t.type.dtype, std::as_writable_bytes(std::span(values)), Dtype::f32);
    return values;
}

// Products that are waited for together, so that launching them costs nothing.
constexpr double kBatchSeconds = 2e-3;
constexpr double kMostOfABatch = 100;

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Sums are added to where they lie, in State, as a training step has them.
Graph graph_of(const GemmCase& c, std::int64_t m, std::int64_t n, std::int64_t k) {
    Graph g;
    Builder b(g);
    Values in{b.input("x", operand(c.a, c.a_scaling, m, k)),
              b.input("w", operand(c.b, c.b_scaling, n, k))};
    if (c.accumulate) in.push_back(b.load("acc", {c.out, {m, n}}));
    const Value y = b.one(
        Matmul{.trans_b = true, .kind = c.kind, .out = c.out, .accumulate = c.accumulate}, in);
    if (c.accumulate) {
        b.store("acc", y);
    } else {
        b.output("y", y);
    }
    return g;
}

}  // namespace

GemmMeasurement::GemmMeasurement(Backend& backend, const GemmCase& c, std::int64_t m,
                                 std::int64_t n, std::int64_t k)
    : backend_(backend), m_(m), n_(n), k_(k), accumulates_(c.accumulate), program_(backend) {
    program_.add("gemm", graph_of(c, m, n, k));
    program_.allocate(std::numeric_limits<std::int64_t>::max());
    fill_random(backend, plan().input("x"), 'x');
    fill_random(backend, plan().input("w"), 'w');
    if (accumulates_) fill_random(backend, result(), 'a');
}

double GemmMeasurement::flops_per_s(double seconds) {
    batch_seconds(2);  // touches fresh memory, and is recorded for replay
    const double once = batch_seconds(1);
    const int runs = static_cast<int>(std::clamp(kBatchSeconds / once, 1.0, kMostOfABatch));
    std::vector<double> times;
    const auto start = Clock::now();
    while (times.size() < 3 || since(start) < seconds) times.push_back(batch_seconds(runs));
    const auto middle = times.begin() + std::ssize(times) / 2;
    std::nth_element(times.begin(), middle, times.end());
    return 2.0 * static_cast<double>(m_) * static_cast<double>(n_) * static_cast<double>(k_) *
           runs / *middle;
}

double GemmMeasurement::sampled_error(int samples) {
    const std::vector<float> x = read_values(backend_, plan().input("x"));
    const std::vector<float> w = read_values(backend_, plan().input("w"));
    std::vector<float> acc;
    if (accumulates_) acc = read_values(backend_, result());
    plan().run();
    const std::vector<float> y = read_values(backend_, result());
    const auto m = static_cast<std::size_t>(m_), n = static_cast<std::size_t>(n_),
               k = static_cast<std::size_t>(k_);
    double errors = 0, squares = 0;
    for (std::uint64_t s = 0; s < static_cast<std::uint64_t>(samples); ++s) {
        const std::size_t row = Rng(3, 0).bits64(s) % m, column = Rng(3, 1).bits64(s) % n;
        double sum = accumulates_ ? static_cast<double>(acc[row * n + column]) : 0;
        for (std::size_t i = 0; i < k; ++i) {
            sum += static_cast<double>(x[row * k + i]) * static_cast<double>(w[column * k + i]);
        }
        errors += std::pow(static_cast<double>(y[row * n + column]) - sum, 2);
        squares += sum * sum;
    }
    return std::sqrt(errors / squares);
}

std::string GemmMeasurement::kernel() {
    const auto& nodes = plan().graph().nodes();
    const auto product = std::ranges::find_if(
        nodes, [](const Node& node) { return std::holds_alternative<Matmul>(node.op); });
    return std::string(plan().choice(static_cast<std::int32_t>(product - nodes.begin())).kernel);
}

TensorRef GemmMeasurement::result() {
    return accumulates_ ? program_.state().tensor("acc") : plan().output("y");
}

double GemmMeasurement::batch_seconds(int runs) {
    const auto start = Clock::now();
    for (int i = 0; i < runs; ++i) plan().run();
    backend_.synchronize();
    return since(start);
}

GemmCase plain_product(Dtype dtype) { return {dtype, dtype, is_fp8(dtype) ? Dtype::bf16 : dtype}; }

double measure_gemm_rate(Backend& backend, Dtype dtype, std::int64_t n) {
    return GemmMeasurement(backend, plain_product(dtype), n, n, n).flops_per_s();
}

}  // namespace octavo
