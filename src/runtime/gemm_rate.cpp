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

double sampled_error(Backend& backend, Plan& plan, bool accumulate, int samples) {
    const std::vector<float> x = read_values(backend, plan.input("x"));
    const std::vector<float> w = read_values(backend, plan.input("w"));
    const std::vector<float> y = read_values(backend, plan.output("y"));
    std::vector<float> acc;
    if (accumulate) acc = read_values(backend, plan.input("acc"));
    const auto k = static_cast<std::size_t>(plan.input("x").type.shape.last());
    const std::size_t m = x.size() / k, n = w.size() / k;
    double errors = 0, squares = 0;
    for (std::uint64_t s = 0; s < static_cast<std::uint64_t>(samples); ++s) {
        const std::size_t row = Rng(3, 0).bits64(s) % m, column = Rng(3, 1).bits64(s) % n;
        double sum = accumulate ? static_cast<double>(acc[row * n + column]) : 0;
        for (std::size_t i = 0; i < k; ++i) {
            sum += static_cast<double>(x[row * k + i]) * static_cast<double>(w[column * k + i]);
        }
        errors += std::pow(static_cast<double>(y[row * n + column]) - sum, 2);
        squares += sum * sum;
    }
    return std::sqrt(errors / squares);
}

}  // namespace

GemmRate measure_gemm(Backend& backend, const GemmCase& c, std::int64_t m, std::int64_t n,
                      std::int64_t k, double seconds, int samples) {
    Graph g;
    Builder b(g);
    Values in{b.input("x", operand(c.a, c.a_scaling, m, k)),
              b.input("w", operand(c.b, c.b_scaling, n, k))};
    if (c.accumulate) in.push_back(b.input("acc", {c.out, {m, n}}));
    b.output(
        "y",
        b.one(Matmul{.trans_b = true, .kind = c.kind, .out = c.out, .accumulate = c.accumulate},
              in));
    Program program(backend);
    program.add("gemm", g);
    program.allocate(std::numeric_limits<std::int64_t>::max());
    Plan& plan = program.plan("gemm");
    for (const char* name : {"x", "w", "acc"}) {
        if (name != std::string_view("acc") || c.accumulate) {
            fill_random(backend, plan.input(name), static_cast<std::uint64_t>(name[0]));
        }
    }

    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    const auto start = Clock::now();
    while (times.size() < 4 ||
           std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
        const auto begin = Clock::now();
        plan.run();
        backend.synchronize();
        times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    times.erase(times.begin());  // the first touches fresh memory
    std::nth_element(times.begin(), times.begin() + std::ssize(times) / 2, times.end());
    const double flops =
        2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const auto node =
        static_cast<std::int32_t>(plan.graph().producer(plan.graph().outputs()[0].value));
    return {flops / times[times.size() / 2], std::string(plan.choice(node).kernel),
            samples > 0 ? sampled_error(backend, plan, c.accumulate, samples) : 0};
}

GemmRate measure_gemm_rate(Backend& backend, Dtype dtype, std::int64_t n) {
    return measure_gemm(backend, {dtype, dtype, is_fp8(dtype) ? Dtype::bf16 : dtype}, n, n, n, 0.3,
                        0);
}

}  // namespace octavo
