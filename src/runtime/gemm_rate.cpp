#include "runtime/gemm_rate.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "graph/builder.h"
#include "runtime/program.h"
#include "runtime/random_fill.h"

namespace octavo {
GemmRate measure_gemm_rate(Backend& backend, Dtype dtype, std::int64_t m, std::int64_t n,
                           std::int64_t k, double seconds) {
    Graph g;
    Builder b(g);
    const Scaling scaling = is_fp8(dtype) ? kPerTensor : kUnscaled;
    const Value x = b.input("x", {dtype, {m, k}, scaling}),
                w = b.input("w", {dtype, {n, k}, scaling});
    const Dtype out = is_fp8(dtype) ? Dtype::bf16 : dtype;
    b.output("y", b.one(Matmul{.trans_b = true, .kind = MatmulKind::fprop, .out = out}, {x, w}));
    Program program(backend);
    program.add("gemm", g);
    program.allocate(std::numeric_limits<std::int64_t>::max());
    fill_random(backend, program.plan("gemm").input("x"), 1);
    fill_random(backend, program.plan("gemm").input("w"), 2);

    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    const auto start = Clock::now();
    while (times.size() < 4 ||
           std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
        const auto begin = Clock::now();
        program.run("gemm");
        backend.synchronize();
        times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    times.erase(times.begin());  // the first touches fresh memory
    std::nth_element(times.begin(), times.begin() + std::ssize(times) / 2, times.end());
    const double flops =
        2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const Plan& plan = program.plan("gemm");
    const auto node =
        static_cast<std::int32_t>(plan.graph().producer(plan.graph().outputs()[0].value));
    return {flops / times[times.size() / 2], std::string(plan.choice(node).kernel)};
}

}  // namespace octavo
