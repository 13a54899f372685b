// A mixture of experts (Qwen3-MoE): a router gives each token to a few of many small feed-forward
// layers, and adds up what they make of it.
#include <algorithm>

#include "models/model.h"

namespace octavo {

bool is_sparse(const Architecture& a, std::int64_t layer) {
    const auto& dense = a.experts.dense_layers;
    return a.experts.count > 0 && (layer + 1) % a.experts.sparse_step == 0 &&
           std::ranges::find(dense, layer) == dense.end();
}

Value mixture_of_experts(ModelBuilder& m, Value x) {  // (B, T, C) -> (B, T, C)
    Builder& b = m.b;
    const auto scope = b.scope("mlp");
    const Architecture& a = m.arch;
    const Experts& e = a.experts;
    const Shape shape = b.shape(x);
    x = b.reshape(x, {shape.rows(), a.hidden_size});

    Value logits;  // (B * T, E), in f32 under every recipe
    {
        const auto gate = b.scope("gate");
        logits = b.one(Matmul{.trans_b = true}, {x, m.router({e.count, a.hidden_size})});
    }
    const Values routed = b.emit(RouteTopK{e.per_token, e.normalise_gates}, {logits});
    const Value gates = routed[0], ids = routed[1];  // (B * T, k)
    const Values order = b.emit(ExpertOrder{e.count}, {ids});
    const Value rows = order[0], choices = order[1], offsets = order[2];
    m.routers.push_back({b.label(), logits, ids, order[3]});

    const auto project = [&](std::string_view name, Value v, std::int64_t out, double sigma) {
        const auto projection = b.scope(name);
        const Shape stack{e.count, out, b.shape(v).last()};
        const Matmul op{
            .trans_b = true, .kind = MatmulKind::fprop, .out = b.dtype(v), .groups = e.count};
        return b.one(op, {v, m.parameter("weight", stack, Init::normal, sigma), offsets});
    };
    Value y;
    {
        const auto experts = b.scope("experts");
        const Value sorted = b.one(Dispatch{}, {x, rows, choices});  // (R, C)
        const Value gate = project("gate_proj", sorted, e.intermediate_size, kSigma);
        const Value up = project("up_proj", sorted, e.intermediate_size, kSigma);
        const Value h = b.one(SwiGlu{}, {gate, up});  // (R, F)
        y = project("down_proj", h, a.hidden_size, residual_sigma(a));
    }
    return b.reshape(b.one(Combine{}, {y, rows, choices, gates}), shape);
}

Value router_loss(ModelBuilder& m, double balance, double z, Value weight) {
    const auto scope = m.b.scope("router_loss");
    Values in{weight};
    for (const Router& r : m.routers) in.insert(in.end(), {r.logits, r.ids});
    return m.b.one(RouterLoss{static_cast<float>(balance), static_cast<float>(z)}, in);
}

}  // namespace octavo
