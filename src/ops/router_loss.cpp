// What keeps routers in balance, over the L routers of a model together, for T tokens each:
//     loss = weight T (balance E sum over experts of f_e P_e  +  z mean of lse^2)
//     f_e = choices of expert e / (L T), P_e = mean of its softmax probability
// The first term is transformers' load_balancing_loss_func (arXiv 2101.03961, eq. 4; f sums to k),
// the second the router z-loss (arXiv 2202.08906, eq. 5) with lse the logsumexp of a token's
// logits. weight T is 1 for a step of one micro-batch, whose loss counts each token by weight = 1 /
// T.
//     weight (1) f32, then for each router logits (T, E) f32 and ids (T, k) i32 (f64 throughout
//     with f64 logits) -> loss (1)
//
// f_e is a count: no gradient flows through it.
#include "ops/router_loss.h"

namespace octavo {
namespace {

Types type(const RouterLoss&, Operands in) {
    expect_routers(in, 1);
    in.expect_shape(0, {1});
    in.expect_dtype(0, in[1].dtype);
    return {in[0]};
}

Values vjp(Builder& b, const RouterLoss& op, const Values& in, const Values&, const Values& dout) {
    Values operands{in[0], dout[0]};
    operands.insert(operands.end(), in.begin() + 1, in.end());
    Values gradients{Value{}};
    for (const Value d : b.emit(RouterLossGrad{op.balance, op.z}, operands)) {
        gradients.insert(gradients.end(), {d, Value{}});
    }
    return gradients;
}

constexpr RulesFor<RouterLoss> kRouterLoss{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const RouterLoss&) { return kRules<kRouterLoss>; }

}  // namespace octavo
