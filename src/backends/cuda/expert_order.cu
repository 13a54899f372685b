// A counting sort that is stable, and thus the same in every run: choices are cut into chunks, a
// warp for each, which goes through them in order.
#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

constexpr std::int64_t kChunk = 1024;        // choices
constexpr std::int64_t kMostExperts = 8192;  // whose counters fit into shared memory

struct Order {
    const std::int32_t* ids;
    std::int64_t choices, experts, alignment;
    std::int32_t *rows, *choice_of, *offsets, *counts;
    std::int32_t* chunks;  // (chunks, experts): choices in a chunk, then the row of the first

    __device__ std::int64_t end(std::int64_t chunk) const {
        const std::int64_t end = (chunk + 1) * kChunk;
        return end < choices ? end : choices;
    }
};

// f(choice, expert, rank) for the choices of a chunk, rank counted from counters[expert] on, which
// moves behind them.
template <class F>
__device__ void over_chunk(const Order& o, std::int32_t* counters, F&& f) {
    const int lane = static_cast<int>(threadIdx.x);
    const std::int64_t end = o.end(blockIdx.x);
    for (std::int64_t first = blockIdx.x * kChunk; first < end; first += kWarp) {
        const std::int64_t choice = first + lane;
        const int expert = choice < end ? o.ids[choice] : -1;
        const unsigned same = __match_any_sync(0xFFFFFFFF, expert);
        const int before = __popc(same & ((1u << lane) - 1));
        const std::int32_t base = expert < 0 ? 0 : counters[expert];
        __syncwarp();  // all lanes have read
        if (expert >= 0 && before == 0) counters[expert] = base + __popc(same);
        __syncwarp();
        if (expert >= 0) f(choice, expert, base + before);
    }
}

__global__ void __launch_bounds__(kWarp) count_kernel(Order o) {
    extern __shared__ std::int32_t counters[];
    for (std::int64_t e = threadIdx.x; e < o.experts; e += kWarp) counters[e] = 0;
    __syncwarp();
    over_chunk(o, counters, [](std::int64_t, int, std::int32_t) {});
    __syncwarp();
    std::int32_t* to = o.chunks + blockIdx.x * o.experts;
    for (std::int64_t e = threadIdx.x; e < o.experts; e += kWarp) to[e] = counters[e];
}

// One block: what each chunk has of an expert becomes the row where the chunk goes on.
__global__ void __launch_bounds__(kBlock) offsets_kernel(Order o, std::int64_t chunks) {
    extern __shared__ std::int32_t counters[];
    for (std::int64_t e = threadIdx.x; e < o.experts; e += kBlock) {
        std::int32_t sum = 0;
        for (std::int64_t c = 0; c < chunks; ++c) {
            std::int32_t& in_chunk = o.chunks[c * o.experts + e];
            const std::int32_t n = in_chunk;
            in_chunk = sum;
            sum += n;
        }
        o.counts[e] = counters[e] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        std::int64_t at = 0;
        for (std::int64_t e = 0; e < o.experts; ++e) {
            const std::int32_t count = counters[e];
            counters[e] = static_cast<std::int32_t>(at);
            at += (count + o.alignment - 1) / o.alignment * o.alignment;
        }
        o.offsets[o.experts] = static_cast<std::int32_t>(at);
    }
    __syncthreads();
    for (std::int64_t e = threadIdx.x; e < o.experts; e += kBlock) {
        o.offsets[e] = counters[e];
        for (std::int64_t c = 0; c < chunks; ++c) o.chunks[c * o.experts + e] += counters[e];
    }
}

__global__ void __launch_bounds__(kWarp) place_kernel(Order o) {
    extern __shared__ std::int32_t counters[];
    const std::int32_t* from = o.chunks + blockIdx.x * o.experts;
    for (std::int64_t e = threadIdx.x; e < o.experts; e += kWarp) counters[e] = from[e];
    __syncwarp();
    over_chunk(o, counters, [&](std::int64_t choice, int, std::int32_t row) {
        o.rows[choice] = row;
        o.choice_of[row] = static_cast<std::int32_t>(choice);
    });
}

struct NoChoice {
    std::int32_t* choice_of;

    template <int N>
    __device__ void run(std::int64_t i) const {
#pragma unroll
        for (int k = 0; k < N; ++k) choice_of[i + k] = -1;
    }
};

void expert_order(const KernelCall& call, const ExpertOrder& op) {
    const Order o{.ids = call.in[0].as<std::int32_t>(),
                  .choices = call.in[0].type.shape.elements(),
                  .experts = op.experts,
                  .alignment = op.alignment,
                  .rows = call.out[0].as<std::int32_t>(),
                  .choice_of = call.out[1].as<std::int32_t>(),
                  .offsets = call.out[2].as<std::int32_t>(),
                  .counts = call.out[3].as<std::int32_t>(),
                  .chunks = reinterpret_cast<std::int32_t*>(call.scratch)};
    const std::int64_t chunks = ceil_div(o.choices, kChunk);
    const std::size_t counters = static_cast<std::size_t>(o.experts) * sizeof(std::int32_t);
    for_elements("expert_order", call.out[1].type.shape.elements(), NoChoice{o.choice_of});
    const auto blocks = static_cast<unsigned>(chunks);
    if (chunks > 0) count_kernel<<<blocks, kWarp, counters, stream()>>>(o);
    offsets_kernel<<<1, kBlock, counters, stream()>>>(o, chunks);
    if (chunks > 0) place_kernel<<<blocks, kWarp, counters, stream()>>>(o);
    launched("expert_order");
}

Refusal reject(const NodeView& node) {
    const std::int64_t experts = std::get<ExpertOrder>(node.op).experts;
    if (experts <= kMostExperts) return std::nullopt;
    return fmt::format("{} experts; up to {} are supported", experts, kMostExperts);
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<ExpertOrder>(node.op);
    const std::int64_t chunks = ceil_div(node.in[0].shape.elements(), kChunk);
    return {[op](const KernelCall& call) { expert_order(call, op); },
            chunks * op.experts * static_cast<std::int64_t>(sizeof(std::int32_t))};
}

}  // namespace

void register_expert_order(KernelRegistry& registry) {
    registry.add<ExpertOrder>({"expert_order", reject, prepare});
}

}  // namespace octavo::cuda
