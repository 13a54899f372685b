#include "backends/cuda/router.cuh"

namespace octavo::cuda {
namespace {

template <class C>
struct Route {
    const C* logits;
    const std::int32_t* given;  // null: none
    C* gates;
    std::int32_t* ids;
    std::int64_t experts, k;
    bool normalise;

    __device__ void operator()(std::int64_t token, int lane) const {
        const C* row = logits + token * experts;
        std::int32_t* chosen = ids + token * k;
        if (given && given[token * k] >= 0) {
            for (std::int64_t j = lane; j < k; j += kWarp) chosen[j] = given[token * k + j];
        } else {
            choose(row, chosen, lane);
        }
        __syncwarp();  // the choice is there for all lanes
        const Softmax<C> softmax(normalise ? Logits<C>{row, k, chosen} : Logits<C>{row, experts});
        for (std::int64_t j = lane; j < k; j += kWarp) {
            gates[token * k + j] = softmax(row[chosen[j]]);
        }
    }

    // The first expert after the last choice, k times.
    __device__ void choose(const C* row, std::int32_t* chosen, int lane) const {
        C last = 0;
        std::int64_t last_expert = -1;
        for (std::int64_t j = 0; j < k; ++j) {
            C best = 0;
            std::int64_t best_expert = -1;
            const auto offer = [&](C logit, std::int64_t expert) {
                if (expert < 0) return;
                if (best_expert >= 0 && !chosen_before(logit, expert, best, best_expert)) return;
                best = logit;
                best_expert = expert;
            };
            for (std::int64_t e = lane; e < experts; e += kWarp) {
                if (j == 0 || chosen_before(last, last_expert, row[e], e)) offer(row[e], e);
            }
#pragma unroll
            for (int other = kWarp / 2; other > 0; other /= 2) {
                const C logit = __shfl_xor_sync(0xFFFFFFFF, best, other);
                const auto expert = static_cast<std::int64_t>(
                    __shfl_xor_sync(0xFFFFFFFF, static_cast<int>(best_expert), other));
                offer(logit, expert);
            }
            if (lane == 0) chosen[j] = static_cast<std::int32_t>(best_expert);
            last = best;
            last_expert = best_expert;
        }
    }
};

template <class C>
void route_top_k(const KernelCall& call, bool normalise) {
    const Shape& shape = call.in[0].type.shape;
    for_tokens("route_top_k", shape[0],
               Route<C>{.logits = call.in[0].as<C>(),
                        .given = call.in.size() > 1 ? call.in[1].as<std::int32_t>() : nullptr,
                        .gates = call.out[0].as<C>(),
                        .ids = call.out[1].as<std::int32_t>(),
                        .experts = shape[1],
                        .k = call.out[0].type.shape[1],
                        .normalise = normalise});
}

Prepared prepare(const NodeView& node) {
    const bool normalise = std::get<RouteTopK>(node.op).normalise;
    const bool f64 = node.in[0].dtype == Dtype::f64;
    return {[=](const KernelCall& call) {
        f64 ? route_top_k<double>(call, normalise) : route_top_k<float>(call, normalise);
    }};
}

}  // namespace

void register_route_top_k(KernelRegistry& registry) {
    registry.add<RouteTopK>({"route_top_k", takes_all, prepare});
}

}  // namespace octavo::cuda
