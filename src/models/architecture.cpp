#include "models/architecture.h"

#include <iterator>

#include "models/model.h"

namespace octavo {
namespace {

struct FamilyName {
    Family family;
    std::string_view name;
};
constexpr FamilyName kFamilies[] = {{Family::llama, "llama"},
                                    {Family::qwen2, "qwen2"},
                                    {Family::qwen3, "qwen3"},
                                    {Family::qwen3_moe, "qwen3_moe"},
                                    {Family::gpt2, "gpt2"}};

// What no model has come near to.
constexpr std::int64_t kMostLayers = 1 << 12, kMostExperts = 1 << 18;
constexpr double kMostWeights = 0x1p50;

// In floating point, which does not overflow.
double approximate_weights(const Architecture& a) {
    const auto real = [](std::int64_t n) { return static_cast<double>(n); };
    const double c = real(a.hidden_size);
    const double attention = 2 * c * (real(a.heads) + real(a.kv_heads)) * real(a.head_dim);
    const double experts = 3 * c * real(a.experts.count) * real(a.experts.intermediate_size);
    return real(a.layers) * (attention + 3 * c * real(a.intermediate_size) + experts) +
           c * (2 * real(a.vocab_size) + real(a.max_positions));
}

void check_rope(const Architecture& a) {
    check(a.head_dim % 2 == 0, "model: head_dim must be even for rotary embeddings, got {}",
          a.head_dim);
    check(a.rope_theta > 0, "model: rope_theta must be positive, got {}", a.rope_theta);
    const RopeScaling& s = a.rope_scaling;
    if (s.kind == RopeScaling::Kind::none) return;
    check(s.factor > 0 && s.original_max_positions > 0 && s.low_freq_factor > 0 &&
              s.high_freq_factor > s.low_freq_factor,
          "model: rope scaling llama3 needs a positive factor, original_max_position_embeddings "
          "and low_freq_factor below high_freq_factor, got {}, {}, {} and {}",
          s.factor, s.original_max_positions, s.low_freq_factor, s.high_freq_factor);
}

void check_experts(const Architecture& a) {
    const Experts& e = a.experts;
    if (a.family != Family::qwen3_moe) {
        check(e.count == 0, "model: family {} has no experts, got {}", name(a.family), e.count);
        return;
    }
    check(e.count > 0 && e.count < (1 << 20) && e.intermediate_size > 0 &&
              e.intermediate_size < (std::int64_t{1} << 31) && e.sparse_step > 0,
          "model: qwen3_moe needs experts, their intermediate size and a sparse step above 0, got "
          "{}, {} and {}",
          e.count, e.intermediate_size, e.sparse_step);
    check(e.per_token > 0 && e.per_token <= e.count,
          "model: experts per token must be 1 to {}, got {}", e.count, e.per_token);
    check(a.layers * e.count <= kMostExperts, "model: expected at most {} experts, got {} x {}",
          kMostExperts, a.layers, e.count);
    check(std::ssize(e.dense_layers) <= a.layers,
          "model: expected at most {} layers without experts, got {}", a.layers,
          e.dense_layers.size());
    for (const std::int64_t layer : e.dense_layers) {
        check(layer >= 0 && layer < a.layers,
              "model: layers without experts must be 0 to {}, got {}", a.layers - 1, layer);
    }
}

}  // namespace

std::string_view name(Family family) {
    for (const FamilyName& f : kFamilies) {
        if (f.family == family) return f.name;
    }
    return "?";
}

Family family_named(std::string_view text) {
    std::string known;
    for (const FamilyName& f : kFamilies) {
        if (f.name == text) return f.family;
        known += (known.empty() ? "" : ", ") + std::string(f.name);
    }
    fail("model family '{}' is not supported.\n  Supported: {}.", text, known);
}

void check_architecture(const Architecture& a) {
    const std::pair<std::string_view, std::int64_t> sizes[] = {
        {"vocab_size", a.vocab_size},
        {"hidden_size", a.hidden_size},
        {"layers", a.layers},
        {"heads", a.heads},
        {"kv_heads", a.kv_heads},
        {"head_dim", a.head_dim},
        {"max_positions", a.max_positions},
        {"intermediate_size", a.intermediate_size}};
    for (const auto& [key, value] : sizes) {
        check(value > 0 && value < (std::int64_t{1} << 31),
              "model: {} must be positive and below 2^31, got {}", key, value);
    }
    check(a.layers <= kMostLayers, "model: layers must be at most {}, got {}", kMostLayers,
          a.layers);
    check(a.heads % a.kv_heads == 0, "model: heads must be a multiple of kv_heads, got {} and {}",
          a.heads, a.kv_heads);
    check_experts(a);
    check(approximate_weights(a) < kMostWeights,
          "model: expected fewer than {:.0e} weights, got about {:.1e}", kMostWeights,
          approximate_weights(a));
    check(a.norm_eps > 0, "model: norm_eps must be positive, got {}", a.norm_eps);
    if (a.family != Family::gpt2) {
        check_rope(a);
    } else {
        check(a.heads == a.kv_heads && a.heads * a.head_dim == a.hidden_size,
              "model: gpt2 needs hidden_size = heads * head_dim and kv_heads = heads, got {}, {} x "
              "{} and {}",
              a.hidden_size, a.heads, a.head_dim, a.kv_heads);
    }
}

std::int64_t parameter_count(const Architecture& a) {
    std::int64_t n = 0;
    for (const Parameter& p : parameters(a)) n += p.shape.elements();
    return n;
}

}  // namespace octavo
