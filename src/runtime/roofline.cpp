#include "runtime/roofline.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "runtime/gemm_rate.h"

namespace octavo {
namespace {

Dtype yardstick_dtype(Dtype d) {
    if (is_fp8(d)) return Dtype::e4m3;
    return size_of(d) == 2 ? Dtype::bf16 : Dtype::f32;
}

double product(std::int64_t m, std::int64_t n, std::int64_t k) {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// q k^T and p v over the pairs of T queries that are the last of S positions.
double attention(const Shape& q, const Shape& k) {
    const std::int64_t heads = q[0] * q[2], t = q[1], s = k[1], d = q[3];
    return 2 * product(heads, t, d) * (static_cast<double>(s) - static_cast<double>(t - 1) / 2);
}

double flops_of(const Graph& g, const Node& n) {
    const auto shape = [&](std::size_t i) { return g.type(n.in[i]).shape; };
    if (const auto* m = std::get_if<Matmul>(&n.op)) {
        const Shape a = shape(0), c = g.type(n.out[0]).shape;
        // With groups of K, each matrix of the stack is a sum over a part of it.
        const std::int64_t rows = m->group_k ? c.rows() / m->groups : c.rows();
        return product(rows, c.last(), m->trans_a ? a.rows() : a.last());
    }
    if (std::holds_alternative<HeadLoss>(n.op)) {
        return 3 * product(shape(0)[0], shape(1)[0], shape(1)[1]);
    }
    if (std::holds_alternative<Attention>(n.op)) return attention(shape(0), shape(1));
    if (std::holds_alternative<AttentionGrad>(n.op)) return 2.5 * attention(shape(0), shape(1));
    return 0;
}

}  // namespace

Work work_of(const Graph& g, const Node& n) {
    Work work;
    work.flops = flops_of(g, n);
    if (work.flops > 0) work.dtype = yardstick_dtype(g.type(n.in[0]).dtype);
    const bool table =
        std::holds_alternative<Embedding>(n.op) || std::holds_alternative<GatherRows>(n.op);
    for (const Value v : n.out) work.bytes += static_cast<double>(total_bytes(g.type(v)));
    if (table) work.bytes *= 2;
    for (std::size_t i = table ? 1 : 0; i < n.in.size(); ++i) {
        work.bytes += static_cast<double>(total_bytes(g.type(n.in[i])));
    }
    return work;
}

double measure_copy_rate(Backend& backend) {
    using Clock = std::chrono::steady_clock;
    constexpr int kBatches = 10, kCopies = 16;
    const std::int64_t n = backend.yardstick(), bytes = 4 * n * n;
    const Buffer from(backend, bytes), to(backend, bytes);
    double best = std::numeric_limits<double>::infinity();
    for (int batch = 0; batch < kBatches; ++batch) {
        backend.synchronize();
        const auto start = Clock::now();
        for (int i = 0; i < kCopies; ++i) backend.copy(to.data(), from.data(), bytes);
        backend.synchronize();
        best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return 2.0 * kCopies * static_cast<double>(bytes) / best;
}

Rates measure_rates(Backend& backend, std::span<const Plan* const> plans) {
    Rates rates;
    for (const Plan* plan : plans) {
        for (const Node& n : plan->graph().nodes()) {
            const Work work = work_of(plan->graph(), n);
            if (work.flops == 0 || rates.flops_per_s.contains(work.dtype)) continue;
            rates.flops_per_s[work.dtype] =
                measure_gemm_rate(backend, work.dtype, backend.yardstick());
        }
    }
    rates.bytes_per_s = measure_copy_rate(backend);
    return rates;
}

Floor floor_of(const Plan& plan, const Rates& rates) {
    Floor floor;
    for (std::int32_t i = 0; i < std::ssize(plan.graph().nodes()); ++i) {
        if (plan.choice(i).kernel.empty()) continue;  // a view, an input, a tensor of State
        const Work work = work_of(plan.graph(), plan.graph().node(i));
        const double arithmetic =
            work.flops > 0 ? work.flops / rates.flops_per_s.at(work.dtype) : 0.0;
        const double bytes = work.bytes / rates.bytes_per_s;
        (arithmetic > bytes ? floor.arithmetic : floor.bytes) += std::max(arithmetic, bytes);
    }
    return floor;
}

}  // namespace octavo
