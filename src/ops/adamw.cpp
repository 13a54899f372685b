// One step of AdamW (arXiv 1711.05101) in the order of torch.optim.AdamW:
//     g' = g * factor,   m' = beta1 m + (1 - beta1) g',   v' = beta2 v + (1 - beta2) g'^2
//     w' = w (1 - lr weight_decay) - lr / bias1 * m' / (sqrt(v' / bias2) + eps)
//     w, g, m, v: same f32 type, factor (1) f32, schedule (3) f32 = {lr, bias1, bias2}
//     -> w', m', v' like w
//
// bias_k = 1 - beta_k^step belong to the caller, who counts the steps. If factor is infinite or
// NaN, the step is skipped: w, m, v stay as they are.
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const AdamW&, Operands in) {
    in.expect_count(6);
    in.expect_dtype(0, Dtype::f32);
    for (std::size_t i : {1, 2, 3}) in.expect_like(i, 0);
    in.expect_dtype(4, Dtype::f32);
    in.expect_shape(4, {1});
    in.expect_dtype(5, Dtype::f32);
    in.expect_shape(5, {3});
    return {in[0], in[0], in[0]};
}

constexpr RulesFor<AdamW> kAdamW{.type = type, .in_place = {{{0, 0}, {1, 2}, {2, 3}}}};

}  // namespace

const Rules& rules(const AdamW&) { return kRules<kAdamW>; }

}  // namespace octavo
