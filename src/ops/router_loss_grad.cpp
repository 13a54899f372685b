// Gradient of RouterLoss by the logits of each router: with p the softmax of a token's logits,
//     dlogits[e] = dloss weight / L (balance E p_e (f_e - sum over i of f_i p_i) + 2 z lse p_e)
//     weight (1), dloss (1) f32, then logits (T, E) f32 and ids (T, k) i32 of each router (f64
//     throughout with f64 logits) -> dlogits (T, E) of each
#include "ops/router_loss.h"

namespace octavo {
namespace {

Types type(const RouterLossGrad&, Operands in) {
    expect_routers(in, 2);
    for (const std::size_t i : {0u, 1u}) {
        in.expect_shape(i, {1});
        in.expect_dtype(i, in[2].dtype);
    }
    Types out;
    for (std::size_t i = 2; i < in.size(); i += 2) out.push_back(in[i]);
    return out;
}

constexpr RulesFor<RouterLossGrad> kRouterLossGrad{.type = type};

}  // namespace

const Rules& rules(const RouterLossGrad&) { return kRules<kRouterLossGrad>; }

}  // namespace octavo
