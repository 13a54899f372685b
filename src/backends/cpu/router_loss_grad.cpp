#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/router.h"

namespace octavo::cpu {
namespace {

template <class C>
void router_loss_grad(const KernelCall& call, const RouterLossGrad& op) {
    const Shape& shape = call.in[2].type.shape;
    const std::int64_t tokens = shape[0], experts = shape[1];
    const std::int64_t choices = call.in[3].type.shape.elements();
    const auto routers = static_cast<C>(call.out.size());
    std::vector<C> share(static_cast<std::size_t>(experts));  // f
    for (std::size_t i = 3; i < call.in.size(); i += 2) {
        const std::int32_t* ids = call.in[i].as<std::int32_t>();
        for (std::int64_t c = 0; c < choices; ++c) share[static_cast<std::size_t>(ids[c])] += 1;
    }
    for (C& f : share) f /= routers * static_cast<C>(tokens);
    const C factor = *call.in[0].as<C>() * *call.in[1].as<C>() / routers;
    const C balance = static_cast<C>(op.balance) * static_cast<C>(experts);
    for (std::size_t i = 0; i < call.out.size(); ++i) {
        const C* logits = call.in[2 + 2 * i].as<C>();
        C* dlogits = call.out[i].as<C>();
        parallel_for(tokens, row_grain(experts), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t t = begin; t < end; ++t) {
                const C* row = logits + t * experts;
                const Softmax<C> softmax({row, experts});
                C mean = 0;
                for (std::int64_t e = 0; e < experts; ++e) {
                    mean += share[static_cast<std::size_t>(e)] * softmax(row[e]);
                }
                const C z = 2 * static_cast<C>(op.z) * softmax.logsumexp();
                for (std::int64_t e = 0; e < experts; ++e) {
                    const C f = share[static_cast<std::size_t>(e)];
                    dlogits[t * experts + e] =
                        factor * softmax(row[e]) * (balance * (f - mean) + z);
                }
            }
        });
    }
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<RouterLossGrad>(node.op);
    const bool f64 = node.in[2].dtype == Dtype::f64;
    return {[=](const KernelCall& call) {
        f64 ? router_loss_grad<double>(call, op) : router_loss_grad<float>(call, op);
    }};
}

}  // namespace

void register_router_loss_grad(KernelRegistry& registry) {
    registry.add<RouterLossGrad>({"router_loss_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
