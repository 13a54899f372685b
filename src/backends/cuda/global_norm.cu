#include <array>
#include <vector>

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

constexpr int kNormBlock = 512;
// A block sums the squares of this many elements; the sums of blocks are added in order.
constexpr std::int64_t kChunk = std::int64_t{1} << 16;

struct Operand {
    const void* data;
    const float* scale;  // null: none
    std::int64_t elements;
    std::int64_t first_chunk;  // in this launch
    Dtype dtype;
};

// As many as fit into the parameters of a kernel.
struct Operands {
    static constexpr int kMost = 96;
    std::array<Operand, kMost> operands;
    int count = 0;
    std::int64_t chunks = 0;

    void add(const TensorRef& x, const float* scale) {
        const std::int64_t elements = x.type.shape.elements();
        operands[count++] = {x.data, scale, elements, chunks, x.type.dtype};
        chunks += ceil_div(elements, kChunk);
    }
};
static_assert(sizeof(Operands) < 4096);

template <class T>
__device__ double squares(const T* x, compute_t<T> scale, std::int64_t n) {
    double sum = 0;
    const auto add = [&](compute_t<T> value) {
        const auto v = static_cast<double>(value * scale);
        sum += v * v;
    };
    const std::int64_t packets = n / kPacket;
#pragma unroll 2
    for (std::int64_t p = threadIdx.x; p < packets; p += kNormBlock) {
        compute_t<T> packet[kPacket];
        load<kPacket>(x + p * kPacket, packet);
#pragma unroll
        for (int k = 0; k < kPacket; ++k) add(packet[k]);
    }
    for (std::int64_t i = packets * kPacket + threadIdx.x; i < n; i += kNormBlock) add(widen(x[i]));
    return sum;
}

__global__ void __launch_bounds__(kNormBlock)
    squares_kernel(const __grid_constant__ Operands table, double* sums) {
    const std::int64_t chunk = blockIdx.x;
    int at = 0;  // the last operand that begins no later
    for (int above = table.count; above - at > 1;) {
        const int middle = (at + above) / 2;
        (table.operands[middle].first_chunk <= chunk ? at : above) = middle;
    }
    const Operand& operand = table.operands[at];
    const std::int64_t begin = (chunk - operand.first_chunk) * kChunk;
    const std::int64_t left = operand.elements - begin;
    const std::int64_t n = left < kChunk ? left : kChunk;
    const float scale = operand.scale ? *operand.scale : 1.0f;
    const auto of = [&](auto type) {
        return squares(static_cast<const decltype(type)*>(operand.data) + begin, scale, n);
    };
    double sum = 0;
    switch (operand.dtype) {
        case Dtype::f64:
            sum = of(double{});
            break;
        case Dtype::f32:
            sum = of(float{});
            break;
        case Dtype::bf16:
            sum = of(bf16{});
            break;
        case Dtype::f16:
            sum = of(f16{});
            break;
        case Dtype::e4m3:
            sum = of(e4m3{});
            break;
        default:
            sum = of(e5m2{});
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[chunk] = sum;
}

__global__ void __launch_bounds__(kNormBlock)
    norm_kernel(const double* sums, std::int64_t chunks, float* norm) {
    double sum = 0;
#pragma unroll 4
    for (std::int64_t i = threadIdx.x; i < chunks; i += kNormBlock) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(sum));
}

void global_norm(const KernelCall& call, bool scaled) {
    double* const sums = reinterpret_cast<double*>(call.scratch);
    std::int64_t chunks = 0;
    Operands table;
    const auto launch = [&] {
        if (table.chunks > 0) {
            squares_kernel<<<static_cast<unsigned>(table.chunks), kNormBlock, 0, stream()>>>(
                table, sums + chunks);
            launched("global_norm");
        }
        chunks += table.chunks;
        table = {};
    };
    const std::size_t tensors = scaled ? call.in.size() / 2 : call.in.size();
    for (std::size_t i = 0; i < tensors; ++i) {
        const TensorRef& x = call.in[i];
        if (x.type.shape.elements() == 0) continue;
        if (table.count == Operands::kMost) launch();
        table.add(x, scaled ? call.in[tensors + i].as<float>() : x.scales());
    }
    launch();
    norm_kernel<<<1, kNormBlock, 0, stream()>>>(sums, chunks, call.out[0].as<float>());
    launched("global_norm");
}

Prepared prepare(const NodeView& node) {
    std::int64_t chunks = 0;
    for (const Type& t : node.in) chunks += ceil_div(t.shape.elements(), kChunk);
    return {[scaled = std::get<GlobalNorm>(node.op).scaled](const KernelCall& call) {
                global_norm(call, scaled);
            },
            chunks * static_cast<std::int64_t>(sizeof(double))};
}

}  // namespace

void register_global_norm(KernelRegistry& registry) {
    registry.add<GlobalNorm>({"global_norm", takes_all, prepare});
}

}  // namespace octavo::cuda
