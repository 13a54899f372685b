#include "backends/cpu/kernels.h"
#include "backends/cpu/router.h"

namespace octavo::cpu {
namespace {

template <class C>
void route_top_k_grad(const KernelCall& call, bool normalise) {
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t experts = shape[1], k = call.in[1].type.shape[1];
    const C* logits = call.in[0].as<C>();
    const std::int32_t* ids = call.in[1].as<std::int32_t>();
    const C* dgates = call.in[2].as<C>();
    C* dlogits = call.out[0].as<C>();
    parallel_for(shape[0], row_grain(experts), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) {
            const C *row = logits + t * experts, *d = dgates + t * k;
            const std::int32_t* chosen = ids + t * k;
            C* out = dlogits + t * experts;
            const Softmax<C> softmax(normalise ? Logits<C>{row, k, chosen}
                                               : Logits<C>{row, experts});
            C mean = 0;
            for (std::int64_t j = 0; j < k; ++j) mean += softmax(row[chosen[j]]) * d[j];
            for (std::int64_t e = 0; e < experts; ++e) {
                out[e] = normalise ? C(0) : -(softmax(row[e]) * mean);
            }
            for (std::int64_t j = 0; j < k; ++j) {
                const C gate = softmax(row[chosen[j]]);
                out[chosen[j]] += gate * d[j] - (normalise ? gate * mean : C(0));
            }
        }
    });
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

}  // namespace octavo::cpu
