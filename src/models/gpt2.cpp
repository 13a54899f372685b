// GPT-2 (Radford et al., 2019): learned positions, LayerNorm, GELU, biases everywhere, head tied to
// the embedding. Hugging Face stores its linear layers as Conv1D, (in, out).
#include "models/model.h"

namespace octavo {
namespace {

constexpr double kPositionSigma = 0.01;

Value norm(ModelBuilder& m, std::string_view name, Value x) {
    const auto scope = m.b.scope(name);
    const Shape shape{m.arch.hidden_size};
    const Value w = m.parameter("weight", shape, Init::ones);
    const Value bias = m.parameter("bias", shape, Init::zeros);
    return m.b.emit(LayerNorm{static_cast<float>(m.arch.norm_eps)}, {x, w, bias})[0];
}

Value conv1d(ModelBuilder& m, std::string_view name, Value x, std::int64_t out, double sigma) {
    const auto scope = m.b.scope(name);
    const Value w = m.parameter("weight", {m.b.shape(x).last(), out}, Init::normal, sigma);
    return m.b.one(BiasAdd{}, {m.b.conv1d(x, w), m.parameter("bias", {out}, Init::zeros)});
}

Value attention(ModelBuilder& m, Value x) {  // (B, T, C) -> (B, T, C)
    const auto scope = m.b.scope("attn");
    const Architecture& a = m.arch;
    const std::int64_t batch = m.b.shape(x)[0], time = m.b.shape(x)[1], c = a.hidden_size;
    const Value qkv = conv1d(m, "c_attn", x, 3 * c, kSigma);  // (B, T, 3C)
    Values parts = m.b.emit(Split{{c, c, c}}, {qkv});
    for (Value& part : parts) part = m.b.reshape(part, {batch, time, a.heads, a.head_dim});
    const Value o = m.attend(parts[0], parts[1], parts[2]);
    return conv1d(m, "c_proj", o, c, residual_sigma(a));
}

Value mlp(ModelBuilder& m, Value x) {  // (B, T, C) -> (B, T, C)
    const auto scope = m.b.scope("mlp");
    const Value h = conv1d(m, "c_fc", x, m.arch.intermediate_size, kSigma);
    return conv1d(m, "c_proj", m.b.one(Gelu{}, {h}), m.arch.hidden_size, residual_sigma(m.arch));
}

Value embedding_table(ModelBuilder& m) {
    return m.table("/transformer.wte.weight", {m.arch.vocab_size, m.arch.hidden_size}, kSigma);
}

// The token's place in its sequence, for each element of ids.
Value positions(ModelBuilder& m, Value ids) {
    const Value given = m.positions();
    return given ? given : m.b.one(Iota{m.b.type(ids)}, {});
}

}  // namespace

Value gpt2_backbone(ModelBuilder& m, Value ids) {
    Builder& b = m.b;
    const auto scope = b.scope("transformer");
    Value x;  // the residual stream (B, T, C)
    {
        const auto embed = b.scope("wpe");
        const Value table =
            m.table("weight", {m.arch.max_positions, m.arch.hidden_size}, kPositionSigma);
        x = b.add(b.one(Embedding{}, {embedding_table(m), ids}),
                  b.one(Embedding{}, {table, positions(m, ids)}));
    }
    for (std::int64_t i = 0; i < m.arch.layers; ++i) {
        const auto layer = b.scope(fmt::format("h.{}", i));
        x = b.add(x, attention(m, norm(m, "ln_1", x)));
        x = b.add(x, mlp(m, norm(m, "ln_2", x)));
    }
    return norm(m, "ln_f", x);
}

Value gpt2_head(ModelBuilder& m, Value hidden) {
    const auto scope = m.b.scope("lm_head");
    return m.b.linear(hidden, embedding_table(m));
}

}  // namespace octavo
