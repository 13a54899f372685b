#include "backends/cpu/kernels.h"
#include "backends/cpu/router.h"

namespace octavo::cpu {
namespace {

template <class C>
void choose(const C* row, std::int64_t experts, std::int64_t k, std::int32_t* ids) {
    for (std::int64_t j = 0; j < k; ++j) {
        std::int64_t best = -1;
        for (std::int64_t e = 0; e < experts; ++e) {
            const bool left = j == 0 || chosen_before(row[ids[j - 1]], ids[j - 1], row[e], e);
            if (left && (best < 0 || chosen_before(row[e], e, row[best], best))) best = e;
        }
        ids[j] = static_cast<std::int32_t>(best);
    }
}

template <class C>
void route_top_k(const KernelCall& call, bool normalise) {
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t experts = shape[1], k = call.out[0].type.shape[1];
    const C* logits = call.in[0].as<C>();
    const std::int32_t* given = call.in.size() > 1 ? call.in[1].as<std::int32_t>() : nullptr;
    C* gates = call.out[0].as<C>();
    std::int32_t* all_ids = call.out[1].as<std::int32_t>();
    parallel_for(shape[0], row_grain(experts * k), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) {
            const C* row = logits + t * experts;
            std::int32_t* ids = all_ids + t * k;
            if (given && given[t * k] >= 0) {
                std::copy_n(given + t * k, k, ids);
            } else {
                choose(row, experts, k, ids);
            }
            const Softmax<C> softmax(normalise ? Logits<C>{row, k, ids} : Logits<C>{row, experts});
            for (std::int64_t j = 0; j < k; ++j) gates[t * k + j] = softmax(row[ids[j]]);
        }
    });
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

}  // namespace octavo::cpu
