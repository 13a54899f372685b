// Llama, Qwen2 (bias on q, k, v), Qwen3 (norms on q and k) and Qwen3-MoE (experts, too): pre-norm
// decoders with rotary positions, grouped-query attention and SwiGLU.
#include "models/model.h"

namespace octavo {
namespace {

Value norm(ModelBuilder& m, std::string_view name, Value x) {
    const auto scope = m.b.scope(name);
    const Value w = m.parameter("weight", {m.b.shape(x).last()}, Init::ones);
    return m.b.emit(RmsNorm{static_cast<float>(m.arch.norm_eps)}, {x, w})[0];
}

Value linear(ModelBuilder& m, std::string_view name, Value x, std::int64_t out, double sigma,
             bool bias = false) {
    const auto scope = m.b.scope(name);
    Value y = m.b.linear(x, m.parameter("weight", {out, m.b.shape(x).last()}, Init::normal, sigma));
    if (bias) y = m.b.one(BiasAdd{}, {y, m.parameter("bias", {out}, Init::zeros)});
    return y;
}

Value rope(ModelBuilder& m, Value x) {
    const Rope op{.theta = m.arch.rope_theta,
                  .scaling = m.arch.rope_scaling,
                  .max_positions = m.arch.max_positions};
    const Value positions = m.positions();
    return positions ? m.b.one(op, {x, positions}) : m.b.one(op, {x});
}

Value attention(ModelBuilder& m, Value x) {  // (B, T, C) -> (B, T, C)
    const auto scope = m.b.scope("self_attn");
    const Architecture& a = m.arch;
    const std::int64_t batch = m.b.shape(x)[0], time = m.b.shape(x)[1];
    const bool bias = a.family == Family::qwen2;

    const auto project = [&](std::string_view name, std::int64_t heads) {
        const Value y = linear(m, name, x, heads * a.head_dim, kSigma, bias);
        return m.b.reshape(y, {batch, time, heads, a.head_dim});
    };
    Value q = project("q_proj", a.heads);     // (B, T, H, D)
    Value k = project("k_proj", a.kv_heads);  // (B, T, G, D)
    Value v = project("v_proj", a.kv_heads);  // (B, T, G, D)
    if (has_qk_norm(a)) {
        q = norm(m, "q_norm", q);
        k = norm(m, "k_norm", k);
    }
    const Value o = m.attend(rope(m, q), rope(m, k), v);  // (B, T, H * D)
    return linear(m, "o_proj", o, a.hidden_size, residual_sigma(a));
}

Value mlp(ModelBuilder& m, Value x) {  // (B, T, C) -> (B, T, C)
    const auto scope = m.b.scope("mlp");
    const Value gate = linear(m, "gate_proj", x, m.arch.intermediate_size, kSigma);
    const Value up = linear(m, "up_proj", x, m.arch.intermediate_size, kSigma);
    const Value h = m.b.one(SwiGlu{}, {gate, up});  // (B, T, F)
    return linear(m, "down_proj", h, m.arch.hidden_size, residual_sigma(m.arch));
}

Value embedding_table(ModelBuilder& m) {
    return m.table("/model.embed_tokens.weight", {m.arch.vocab_size, m.arch.hidden_size}, kSigma);
}

}  // namespace

Value llama_backbone(ModelBuilder& m, Value ids) {
    Builder& b = m.b;
    const auto scope = b.scope("model");
    Value x;  // the residual stream (B, T, C)
    {
        const auto embed = b.scope("embed_tokens");
        x = b.one(Embedding{}, {embedding_table(m), ids});
    }
    for (std::int64_t i = 0; i < m.arch.layers; ++i) {
        const auto layer = b.scope(fmt::format("layers.{}", i));
        x = b.add(x, attention(m, norm(m, "input_layernorm", x)));
        const Value h = norm(m, "post_attention_layernorm", x);
        x = b.add(x, is_sparse(m.arch, i) ? mixture_of_experts(m, h) : mlp(m, h));
    }
    return norm(m, "norm", x);
}

Value llama_head(ModelBuilder& m, Value hidden) {
    const auto scope = m.b.scope("lm_head");
    if (m.arch.tie_embeddings) return m.b.linear(hidden, embedding_table(m));
    const Shape shape{m.arch.vocab_size, m.arch.hidden_size};
    return m.b.linear(hidden, m.table("weight", shape, kSigma));
}

}  // namespace octavo
