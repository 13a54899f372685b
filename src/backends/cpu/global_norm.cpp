#include <cmath>
#include <numeric>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

// Sums of this many elements are added in order, whoever computed them.
constexpr std::int64_t kChunk = 1 << 15;

template <class T>
double squares(const TensorRef& t, float factor, std::int64_t begin, std::int64_t end) {
    const T* x = t.as<T>();
    const compute_t<T> scale = factor;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) {
        const double v = static_cast<double>(compute_t<T>(x[i]) * scale);
        sum += v * v;
    }
    return sum;
}

struct Chunk {
    std::size_t operand;
    std::int64_t begin, end;
    double (*squares)(const TensorRef&, float, std::int64_t, std::int64_t);
};

std::vector<Chunk> chunks_of(std::span<const Type> operands) {
    std::vector<Chunk> chunks;
    for (std::size_t i = 0; i < operands.size(); ++i) {
        const auto kernel = dispatch_float(
            operands[i].dtype, [](auto tag) { return squares<typename decltype(tag)::type>; });
        const std::int64_t n = operands[i].shape.elements();
        for (std::int64_t begin = 0; begin < n; begin += kChunk) {
            chunks.push_back({i, begin, std::min(n, begin + kChunk), kernel});
        }
    }
    return chunks;
}

Prepared prepare(const NodeView& node) {
    const bool scaled = std::get<GlobalNorm>(node.op).scaled;
    const std::size_t tensors = scaled ? node.in.size() / 2 : node.in.size();
    std::vector<Chunk> chunks = chunks_of(node.in.first(tensors));
    const auto count = static_cast<std::int64_t>(chunks.size());
    const auto run = [chunks = std::move(chunks), count, scaled, tensors](const KernelCall& call) {
        double* sums = reinterpret_cast<double*>(call.scratch);
        parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                const Chunk& c = chunks[i];
                const TensorRef& x = call.in[c.operand];
                const float* scale = scaled ? call.in[tensors + c.operand].as<float>() : x.scales();
                sums[i] = c.squares(x, scale ? *scale : 1.0f, c.begin, c.end);
            }
        });
        const double total = std::accumulate(sums, sums + count, 0.0);
        *call.out[0].as<float>() = static_cast<float>(std::sqrt(total));
    };
    return {run, count * static_cast<std::int64_t>(sizeof(double))};
}

}  // namespace

void register_global_norm(KernelRegistry& registry) {
    registry.add<GlobalNorm>({"global_norm", takes_all, prepare});
}

}  // namespace octavo::cpu
