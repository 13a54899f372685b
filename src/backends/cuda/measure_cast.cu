#include "backends/cuda/kernels.cuh"
#include "base/cast_stats.h"

namespace octavo::cuda {
namespace {

// A block sums this many elements; the sums of blocks are added in an order that the shape fixes.
constexpr std::int64_t kChunk = std::int64_t{1} << 15;

// The sums of all threads of the block, which all have to call it.
__device__ CastSums block_sums(const CastSums& own) {
    __shared__ unsigned amax, scale_max, scale_min;
    if (threadIdx.x == 0) {
        amax = scale_max = 0;
        scale_min = 0xFFFFFFFF;
    }
    CastSums sums;
    sums.signal = block_sum(own.signal);  // synchronises: the extremes are set
    sums.noise = block_sum(own.noise);
    sums.saturated = block_sum(static_cast<long long>(own.saturated));
    sums.flushed = block_sum(static_cast<long long>(own.flushed));
    sums.nonzero = block_sum(static_cast<long long>(own.nonzero));
    atomicMax(&amax, own.amax);
    atomicMax(&scale_max, own.scale_max);
    atomicMin(&scale_min, own.scale_min);
    __syncthreads();
    sums.amax = amax;
    sums.scale_max = scale_max;
    sums.scale_min = scale_min;
    return sums;
}

template <class From, class To>
struct Operands {
    const From* x;
    const float* x_scale;  // null: none
    const To* y;
    const float* scales;  // null: none
    const std::uint8_t* groups;
    std::int64_t elements, columns;
    ScaleLayout layout;
    double max;

    // Exponents of groups are at least 1.
    __device__ double factor(std::int64_t row, std::int64_t column) const {
        if (!scales) return 1;
        const double scale = scales[layout.scale_at(row, column)];
        if (!groups) return scale;
        const std::uint32_t exponent = groups[layout.group_at(row, column)];
        return scale * __uint_as_float(exponent << 23);
    }

    template <int N>
    __device__ void add(std::int64_t i, CastSums& sums) const {
        compute_t<From> value[N];
        float code[N];
        load<N>(x + i, value);
        load<N>(y + i, code);
        const float scale = x_scale ? *x_scale : 1.0f;
        std::int64_t row = i / columns, column = i % columns;
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const double f = factor(row, column);
            sums.add(cast_terms(static_cast<float>(value[k]) * scale, code[k], f, max));
            sums.note_factor(f);
            if (++column < columns) continue;
            column = 0;
            ++row;
        }
    }
};

template <class From, class To>
__global__ void __launch_bounds__(kBlock) chunk_kernel(Operands<From, To> o, CastSums* partial) {
    const std::int64_t begin = std::int64_t{blockIdx.x} * kChunk;
    const std::int64_t end = begin + kChunk < o.elements ? begin + kChunk : o.elements;
    CastSums own;
    std::int64_t at = begin + std::int64_t{threadIdx.x} * kPacket;
    for (; at + kPacket <= end; at += kBlock * kPacket) o.template add<kPacket>(at, own);
    for (std::int64_t i = at; i < end; ++i) o.template add<1>(i, own);
    const CastSums sums = block_sums(own);
    if (threadIdx.x == 0) partial[blockIdx.x] = sums;
}

__global__ void __launch_bounds__(kBlock) total_kernel(const CastSums* partial, std::int64_t chunks,
                                                       std::int64_t elements, CastStats* stats) {
    CastSums own;
    for (std::int64_t i = threadIdx.x; i < chunks; i += kBlock) own.add(partial[i]);
    const CastSums sums = block_sums(own);
    if (threadIdx.x > 0) return;
    *stats = cast_stats(sums, elements, [](double x) { return sqrt(x); });
}

template <class From, class To>
void sum_chunks(const TensorRef& x, const TensorRef& y, CastSums* partial) {
    const std::int64_t n = x.type.shape.elements();
    if (n == 0) return;
    chunk_kernel<From, To><<<static_cast<unsigned>(ceil_div(n, kChunk)), kBlock, 0, stream()>>>(
        {x.as<From>(), x.scales(), y.as<To>(), y.scales(), y.groups, n, y.type.shape.last(),
         scale_layout(y.type), max_value(y.type.dtype)},
        partial);
    launched("measure_cast");
}

void measure(const KernelCall& call) {
    const TensorRef &x = call.in[0], &y = call.in[1];
    auto* const partial = reinterpret_cast<CastSums*>(call.scratch);
    dispatch_float(x.type.dtype, [&](auto tag) {
        using From = typename decltype(tag)::type;
        if (y.type.dtype == Dtype::e4m3) {
            sum_chunks<From, e4m3>(x, y, partial);
        } else {
            sum_chunks<From, e5m2>(x, y, partial);
        }
    });
    const std::int64_t n = x.type.shape.elements();
    total_kernel<<<1, kBlock, 0, stream()>>>(partial, ceil_div(n, kChunk), n,
                                             call.out[0].as<CastStats>());
    launched("measure_cast");
}

Prepared prepare(const NodeView& node) {
    return {measure, ceil_div(node.in[0].shape.elements(), kChunk) *
                         static_cast<std::int64_t>(sizeof(CastSums))};
}

}  // namespace

void register_measure_cast(KernelRegistry& registry) {
    registry.add<MeasureCast>({"measure_cast", takes_all, prepare});
}

}  // namespace octavo::cuda
