#include "backends/cuda/router.cuh"

namespace octavo::cuda {
namespace {

template <class C>
struct RouteGrad {
    const C* logits;
    const std::int32_t* ids;
    const C* dgates;
    C* dlogits;
    std::int64_t experts, k;
    bool normalise;

    __device__ void operator()(std::int64_t token, int lane) const {
        const C *row = logits + token * experts, *d = dgates + token * k;
        const std::int32_t* chosen = ids + token * k;
        const Softmax<C> softmax(normalise ? Logits<C>{row, k, chosen} : Logits<C>{row, experts});
        C mean = 0;
        for (std::int64_t j = lane; j < k; j += kWarp) mean += softmax(row[chosen[j]]) * d[j];
        mean = warp_sum(mean);
        for (std::int64_t e = lane; e < experts; e += kWarp) {
            const C p = softmax(row[e]);
            C sum = normalise ? C(0) : -(p * mean);
            for (std::int64_t j = 0; j < k; ++j) {
                if (chosen[j] == e) sum += p * d[j] - (normalise ? p * mean : C(0));
            }
            dlogits[token * experts + e] = sum;
        }
    }
};

template <class C>
void route_top_k_grad(const KernelCall& call, bool normalise) {
    const Shape& shape = call.in[0].type.shape;
    for_tokens("route_top_k_grad", shape[0],
               RouteGrad<C>{.logits = call.in[0].as<C>(),
                            .ids = call.in[1].as<std::int32_t>(),
                            .dgates = call.in[2].as<C>(),
                            .dlogits = call.out[0].as<C>(),
                            .experts = shape[1],
                            .k = call.in[1].type.shape[1],
                            .normalise = normalise});
}

Prepared prepare(const NodeView& node) {
    const bool normalise = std::get<RouteTopKGrad>(node.op).normalise;
    const bool f64 = node.in[0].dtype == Dtype::f64;
    return {[=](const KernelCall& call) {
        f64 ? route_top_k_grad<double>(call, normalise) : route_top_k_grad<float>(call, normalise);
    }};
}

}  // namespace

void register_route_top_k_grad(KernelRegistry& registry) {
    registry.add<RouteTopKGrad>({"route_top_k_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
