// The shape of a model: all that decides its parameters and its mathematics.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace octavo {

enum class Family : std::uint8_t { llama, qwen2, qwen3, qwen3_moe, gpt2 };

std::string_view name(Family);
Family family_named(std::string_view text);  // Error listing the families

// Feed-forward layers that are mixtures of experts.
struct Experts {
    std::int64_t count = 0;  // of a layer; 0: no layer has any
    std::int64_t per_token = 0;
    std::int64_t intermediate_size = 0;        // of one expert
    bool normalise_gates = true;               // those of a token add up to 1
    std::int64_t sparse_step = 1;              // every so many layers have experts
    std::vector<std::int64_t> dense_layers{};  // but not these
    // What a trainer adds to the loss if config.json asks for it (output_router_logits).
    double aux_loss_coef = 0.001;
    bool aux_loss = false;

    bool operator==(const Experts&) const = default;
};

struct Architecture {
    Family family = Family::llama;
    std::int64_t vocab_size = 0;
    std::int64_t hidden_size = 0;
    std::int64_t layers = 0;
    std::int64_t heads = 0;
    std::int64_t kv_heads = 0;  // = heads without grouped-query attention
    std::int64_t head_dim = 0;
    std::int64_t intermediate_size = 0;
    std::int64_t max_positions = 0;
    double rope_theta = 10000;
    RopeScaling rope_scaling{};
    double norm_eps = 1e-5;
    bool tie_embeddings = false;
    Experts experts{};  // of qwen3_moe

    bool operator==(const Architecture&) const = default;
};

// Throws Error naming the field that makes no model (zero sizes, heads not a multiple of kv_heads,
// odd head_dim, ...), or one that nobody has yet: the numbers of layers, experts and weights are
// bounded, so that a mistaken config fails here and not for want of memory.
void check_architecture(const Architecture&);

// Whether the feed-forward part of this layer is a mixture of experts.
bool is_sparse(const Architecture&, std::int64_t layer);

std::int64_t parameter_count(const Architecture&);

// No JSON of a model is longer but its tokenizer and its index of weights.
inline constexpr std::size_t kLongestConfig = 16 << 20;

// Hugging Face config.json, of transformers 4 and 5. Keys that change the mathematics and are not
// supported (sliding windows in use, other activations, other RoPE types, ...) are refused by name.
Architecture parse_hf_config(std::string_view json, const std::string& where);
Architecture read_hf_config(const std::filesystem::path& folder);
// What config.json asks of trainers that have dropout, which Octavo has not: "resid_pdrop = 0.1,
// ..." or nothing. Evaluation and generation never drop anything.
std::string read_dropout(const std::filesystem::path& folder);
// In the form that transformers 5 writes. `dtype` is that of the weights beside it, "float32", ....
std::string to_hf_config(const Architecture&, std::string_view dtype);

}  // namespace octavo
