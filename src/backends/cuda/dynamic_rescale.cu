#include "backends/cuda/dynamic_rescale.h"

#include "backends/cuda/statistic.cuh"

namespace octavo::cuda {
namespace {

constexpr std::int64_t kChunk = 2 * kBlock * kPacket;  // of a block

std::int64_t chunks_of(std::int64_t n) { return ceil_div(n, kChunk); }

// f(statistic as a type)
template <class F>
void with_statistic(Statistic statistic, F&& f) {
    switch (statistic) {
        case Statistic::l2:
            return f(std::integral_constant<Statistic, Statistic::l2>{});
        case Statistic::l1:
            return f(std::integral_constant<Statistic, Statistic::l1>{});
        case Statistic::max:
            return f(std::integral_constant<Statistic, Statistic::max>{});
    }
}

template <class T, Statistic kStatistic>
__global__ void __launch_bounds__(kBlock) chunks_kernel(const T* x, std::int64_t n, double* parts) {
    const std::int64_t begin = blockIdx.x * kChunk + threadIdx.x * kPacket;
    double total = 0;
#pragma unroll
    for (std::int64_t row = 0; row < kChunk; row += kBlock * kPacket) {
        const std::int64_t at = begin + row;
        float v[kPacket] = {};
        if (at + kPacket <= n) {
            load<kPacket>(x + at, v);
        } else {
#pragma unroll
            for (int k = 0; k < kPacket; ++k) {
                if (at + k < n) v[k] = static_cast<float>(widen(x[at + k]));
            }
        }
        total = joined(kStatistic, total, packet_statistic<kStatistic>(v));
    }
    total = block_joined<kStatistic>(total);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

template <Statistic kStatistic>
__global__ void __launch_bounds__(kBlock)
    size_kernel(const double* parts, std::int64_t count, std::int64_t n, const float* scale,
                DynamicRescale op, float* size) {
    double total = 0;
    for (std::int64_t c = threadIdx.x; c < count; c += kBlock) {
        total = joined(kStatistic, total, parts[c]);
    }
    total = block_joined<kStatistic>(total);
    if (threadIdx.x == 0) *size = measured_size(op, total, n, *scale);
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<DynamicRescale>(node.op);
    const std::int64_t n = node.in[0].shape.elements(), chunks = chunks_of(n);
    return dispatch_float(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto run = [=](const KernelCall& call) {
            auto* const parts = reinterpret_cast<double*>(call.scratch);
            with_statistic(op.statistic, [&]<class S>(S) {
                if (chunks == 0) return;
                chunks_kernel<T, S::value><<<static_cast<unsigned>(chunks), kBlock, 0, stream()>>>(
                    call.in[0].as<T>(), n, parts);
                launched("dynamic_rescale");
            });
            find_size(op, parts, chunks, n, call.in[1].as<float>(), call.out[0].as<float>());
        };
        return Prepared{run, chunks * static_cast<std::int64_t>(sizeof(double))};
    });
}

}  // namespace

void find_size(const DynamicRescale& op, const double* parts, std::int64_t count, std::int64_t n,
               const float* scale, float* size) {
    with_statistic(op.statistic, [&]<class S>(S) {
        size_kernel<S::value><<<1, kBlock, 0, stream()>>>(parts, count, n, scale, op, size);
    });
    launched("dynamic_rescale");
}

void register_dynamic_rescale(KernelRegistry& registry) {
    registry.add<DynamicRescale>({"dynamic_rescale", takes_all, prepare});
}

}  // namespace octavo::cuda
