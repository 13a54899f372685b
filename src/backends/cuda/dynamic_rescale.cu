#include "backends/cuda/kernels.cuh"
#include "backends/propagation.h"

namespace octavo::cuda {
namespace {

static_assert(kStatisticLanes == kBlock && kStatisticPacket == kPacket);

// Joins lanes in the order of backends/propagation.h; the result is thread 0's.
template <Statistic kStatistic, class C>
__device__ inline C join_lanes(C lane) {
    __shared__ C lanes[kStatisticLanes];
    const int l = static_cast<int>(threadIdx.x);
    lanes[l] = lane;
    __syncthreads();
#pragma unroll
    for (int half = kStatisticLanes / 2; half > kWarp / 2; half /= 2) {
        if (l < half) lanes[l] = joined(kStatistic, lanes[l], lanes[l + half]);
        __syncthreads();
    }
    C x = l < kWarp ? lanes[l] : C(0);
#pragma unroll
    for (int half = kWarp / 2; half > 0; half /= 2) {
        x = joined(kStatistic, x, __shfl_down_sync(0xFFFFFFFF, x, half));
    }
    return x;
}

template <class T, Statistic kStatistic>
__global__ void __launch_bounds__(kBlock) chunks_kernel(const T* x, std::int64_t n, float* parts) {
    constexpr std::int64_t kRow = kStatisticLanes * kPacket;
    const std::int64_t begin = std::int64_t{blockIdx.x} * kStatisticChunk + threadIdx.x * kPacket;
    float lane = 0;
#pragma unroll
    for (std::int64_t row = 0; row < kStatisticChunk; row += kRow) {
        const std::int64_t at = begin + row;
        if (at + kPacket <= n) {
            float v[kPacket];
            load<kPacket>(x + at, v);
#pragma unroll
            for (int k = 0; k < kPacket; ++k) lane = with_element(kStatistic, lane, v[k]);
        } else {
            for (std::int64_t i = at; i < n; ++i) {
                lane = with_element(kStatistic, lane, static_cast<float>(widen(x[i])));
            }
        }
    }
    const float part = join_lanes<kStatistic>(lane);
    if (threadIdx.x == 0) parts[blockIdx.x] = part;
}

template <Statistic kStatistic>
__global__ void __launch_bounds__(kBlock)
    size_kernel(const float* parts, std::int64_t chunks, std::int64_t n, const float* scale,
                int exponent, float* size) {
    double lane = 0;
    for (std::int64_t c = threadIdx.x; c < chunks; c += kBlock) {
        lane = joined(kStatistic, lane, static_cast<double>(parts[c]));
    }
    const double total = join_lanes<kStatistic>(lane);
    if (threadIdx.x != 0) return;
    const float factor = rescale_factor(kStatistic, total, n);
    *size = scaled_power(*scale, exponent + exponent_of(factor));
}

template <class T, Statistic kStatistic>
void dynamic_rescale(const KernelCall& call, int exponent) {
    const std::int64_t n = call.in[0].type.shape.elements(), chunks = statistic_chunks(n);
    float* const parts = reinterpret_cast<float*>(call.scratch);
    if (chunks > 0) {
        chunks_kernel<T, kStatistic>
            <<<static_cast<unsigned>(chunks), kBlock, 0, stream()>>>(call.in[0].as<T>(), n, parts);
        launched("dynamic_rescale");
    }
    size_kernel<kStatistic><<<1, kBlock, 0, stream()>>>(parts, chunks, n, call.in[1].as<float>(),
                                                        exponent, call.out[0].as<float>());
    launched("dynamic_rescale");
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<DynamicRescale>(node.op);
    const std::int64_t bytes =
        statistic_chunks(node.in[0].shape.elements()) * static_cast<std::int64_t>(sizeof(float));
    return dispatch_float(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[op](const KernelCall& call) {
                            switch (op.statistic) {
                                case Statistic::l2:
                                    return dynamic_rescale<T, Statistic::l2>(call, op.exponent);
                                case Statistic::l1:
                                    return dynamic_rescale<T, Statistic::l1>(call, op.exponent);
                                case Statistic::max:
                                    return dynamic_rescale<T, Statistic::max>(call, op.exponent);
                            }
                        },
                        bytes};
    });
}

}  // namespace

void register_dynamic_rescale(KernelRegistry& registry) {
    registry.add<DynamicRescale>({"dynamic_rescale", takes_all, prepare});
}

}  // namespace octavo::cuda
