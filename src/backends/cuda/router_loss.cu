// In two launches and one for each router. Probabilities are summed by a warp over every eighth row
// of its block's, then over warps, blocks and routers in order; counts are integers, which any
// order suits.
#include "backends/cuda/router.cuh"

namespace octavo::cuda {
namespace {

constexpr int kWarps = kBlock / kWarp;
constexpr std::int64_t kBlocks = 64;  // that share the rows of a router
constexpr std::int64_t kMostExperts = 512;

template <class C>
struct Sums {
    const C* logits;
    const std::int32_t* ids;
    std::int64_t tokens, experts, k;
    C* partials;  // (blocks, experts + 1): probabilities, and squares of logsumexp
    std::int32_t* counts;
};

template <class C>
__global__ void __launch_bounds__(kBlock) router_sums_kernel(Sums<C> s) {
    __shared__ C sums[kWarps][kMostExperts + 1];
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
    const std::int64_t begin = s.tokens * blockIdx.x / gridDim.x;
    const std::int64_t end = s.tokens * (blockIdx.x + 1) / gridDim.x;
    for (std::int64_t e = lane; e <= s.experts; e += kWarp) sums[warp][e] = 0;
    __syncwarp();
    for (std::int64_t t = begin + warp; t < end; t += kWarps) {
        const C* row = s.logits + t * s.experts;
        const Softmax<C> softmax(Logits<C>{row, s.experts});
        for (std::int64_t e = lane; e < s.experts; e += kWarp) sums[warp][e] += softmax(row[e]);
        const C lse = softmax.logsumexp();
        if (lane == 0) sums[warp][s.experts] += lse * lse;
    }
    for (std::int64_t c = begin * s.k + threadIdx.x; c < end * s.k; c += kBlock) {
        atomicAdd(&s.counts[s.ids[c]], 1);
    }
    __syncthreads();
    for (std::int64_t e = threadIdx.x; e <= s.experts; e += kBlock) {
        C sum = 0;
        for (int w = 0; w < kWarps; ++w) sum += sums[w][e];
        s.partials[blockIdx.x * (s.experts + 1) + e] = sum;
    }
}

template <class C>
struct Loss {
    const C *partials, *weight;
    const std::int32_t* counts;
    std::int64_t rows, tokens, experts, routers;  // rows of partials
    C balance, z;
    C* loss;
};

template <class C>
__global__ void __launch_bounds__(kBlock) router_loss_kernel(Loss<C> l) {
    const C n = static_cast<C>(l.routers * l.tokens);
    C sum = 0;
    for (std::int64_t e = threadIdx.x; e <= l.experts; e += kBlock) {
        C column = 0;
        for (std::int64_t i = 0; i < l.rows; ++i) column += l.partials[i * (l.experts + 1) + e];
        const C share = e < l.experts ? static_cast<C>(l.counts[e]) / n : C(0);
        const C factor = e < l.experts ? l.balance * static_cast<C>(l.experts) * share : l.z;
        sum += factor * (column / n);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) *l.loss = *l.weight * static_cast<C>(l.tokens) * sum;
}

struct Scratch {
    std::int64_t partials, counts, bytes;
};

template <class C>
Scratch cut_scratch(std::int64_t routers, std::int64_t experts) {
    ScratchCounter counter;
    Scratch s{};
    s.partials =
        counter.reserve(routers * kBlocks * (experts + 1) * static_cast<std::int64_t>(sizeof(C)));
    s.counts = counter.reserve(experts * static_cast<std::int64_t>(sizeof(std::int32_t)));
    s.bytes = counter.bytes();
    return s;
}

template <class C>
void router_loss(const KernelCall& call, const RouterLoss& op, const Scratch& at) {
    const Shape& shape = call.in[1].type.shape;
    const std::int64_t tokens = shape[0], experts = shape[1];
    const auto routers = static_cast<std::int64_t>(call.in.size() / 2);
    if (tokens == 0) return clear(call.out[0].data, sizeof(C));
    auto* partials = reinterpret_cast<C*>(call.scratch + at.partials);
    auto* counts = reinterpret_cast<std::int32_t*>(call.scratch + at.counts);
    clear(counts, experts * static_cast<std::int64_t>(sizeof(std::int32_t)));
    for (std::int64_t r = 0; r < routers; ++r) {
        const auto i = static_cast<std::size_t>(2 * r + 1);
        router_sums_kernel<<<kBlocks, kBlock, 0, stream()>>>(
            Sums<C>{.logits = call.in[i].as<C>(),
                    .ids = call.in[i + 1].as<std::int32_t>(),
                    .tokens = tokens,
                    .experts = experts,
                    .k = call.in[i + 1].type.shape[1],
                    .partials = partials + r * kBlocks * (experts + 1),
                    .counts = counts});
        launched("router_loss");
    }
    router_loss_kernel<<<1, kBlock, 0, stream()>>>(Loss<C>{.partials = partials,
                                                           .weight = call.in[0].as<C>(),
                                                           .counts = counts,
                                                           .rows = routers * kBlocks,
                                                           .tokens = tokens,
                                                           .experts = experts,
                                                           .routers = routers,
                                                           .balance = static_cast<C>(op.balance),
                                                           .z = static_cast<C>(op.z),
                                                           .loss = call.out[0].as<C>()});
    launched("router_loss");
}

Refusal reject(const NodeView& node) {
    const std::int64_t experts = node.in[1].shape[1];
    if (experts <= kMostExperts) return std::nullopt;
    return fmt::format("{} experts; up to {} are supported", experts, kMostExperts);
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<RouterLoss>(node.op);
    const auto routers = static_cast<std::int64_t>(node.in.size() / 2);
    const auto of = [&]<class C>(std::type_identity<C>) {
        const Scratch at = cut_scratch<C>(routers, node.in[1].shape[1]);
        return Prepared{[=](const KernelCall& call) { router_loss<C>(call, op, at); }, at.bytes};
    };
    return node.in[1].dtype == Dtype::f64 ? of(std::type_identity<double>{})
                                          : of(std::type_identity<float>{});
}

}  // namespace

void register_router_loss(KernelRegistry& registry) {
    registry.add<RouterLoss>({"router_loss", reject, prepare});
}

}  // namespace octavo::cuda
