#include "backends/cuda/router.cuh"

namespace octavo::cuda {
namespace {

__global__ void __launch_bounds__(kBlock)
    count_choices_kernel(const std::int32_t* ids, std::int64_t n, std::int32_t* counts) {
    const std::int64_t i = std::int64_t{blockIdx.x} * kBlock + threadIdx.x;
    if (i < n) atomicAdd(&counts[ids[i]], 1);
}

template <class C>
struct LossGrad {
    const C *weight, *dloss, *logits;
    const std::int32_t* counts;
    C* dlogits;
    std::int64_t experts;
    C routers, all_tokens;  // L, and L T
    C balance, z;

    __device__ void operator()(std::int64_t token, int lane) const {
        const C* row = logits + token * experts;
        const Softmax<C> softmax(Logits<C>{row, experts});
        const auto share = [&](std::int64_t e) { return static_cast<C>(counts[e]) / all_tokens; };
        C mean = 0;
        for (std::int64_t e = lane; e < experts; e += kWarp) mean += share(e) * softmax(row[e]);
        mean = warp_sum(mean);
        const C factor = *weight * *dloss / routers;
        const C square = 2 * z * softmax.logsumexp();
        for (std::int64_t e = lane; e < experts; e += kWarp) {
            dlogits[token * experts + e] =
                factor * softmax(row[e]) *
                (balance * static_cast<C>(experts) * (share(e) - mean) + square);
        }
    }
};

template <class C>
void router_loss_grad(const KernelCall& call, const RouterLossGrad& op) {
    const Shape& shape = call.in[2].type.shape;
    const std::int64_t tokens = shape[0], experts = shape[1];
    const std::size_t routers = call.out.size();
    if (tokens == 0) return;
    auto* counts = reinterpret_cast<std::int32_t*>(call.scratch);
    clear(counts, experts * static_cast<std::int64_t>(sizeof(std::int32_t)));
    for (std::size_t r = 0; r < routers; ++r) {
        const TensorRef& ids = call.in[3 + 2 * r];
        const std::int64_t n = ids.type.shape.elements();
        count_choices_kernel<<<static_cast<unsigned>(ceil_div(n, kBlock)), kBlock, 0, stream()>>>(
            ids.as<std::int32_t>(), n, counts);
        launched("router_loss_grad");
    }
    for (std::size_t r = 0; r < routers; ++r) {
        for_tokens(
            "router_loss_grad", tokens,
            LossGrad<C>{.weight = call.in[0].as<C>(),
                        .dloss = call.in[1].as<C>(),
                        .logits = call.in[2 + 2 * r].as<C>(),
                        .counts = counts,
                        .dlogits = call.out[r].as<C>(),
                        .experts = experts,
                        .routers = static_cast<C>(routers),
                        .all_tokens = static_cast<C>(static_cast<std::int64_t>(routers) * tokens),
                        .balance = static_cast<C>(op.balance),
                        .z = static_cast<C>(op.z)});
    }
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<RouterLossGrad>(node.op);
    const bool f64 = node.in[2].dtype == Dtype::f64;
    const std::int64_t bytes =
        node.in[2].shape[1] * static_cast<std::int64_t>(sizeof(std::int32_t));
    return {[=](const KernelCall& call) {
                f64 ? router_loss_grad<double>(call, op) : router_loss_grad<float>(call, op);
            },
            bytes};
}

}  // namespace

void register_router_loss_grad(KernelRegistry& registry) {
    registry.add<RouterLossGrad>({"router_loss_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
