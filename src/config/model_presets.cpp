#include "config/model_presets.h"

#include <fmt/format.h>

#include "base/error.h"

namespace octavo {
namespace {

const std::vector<RunConfig::Model>& presets() {
    static const std::vector<RunConfig::Model> table = {
        // 6 million parameters over bytes: trains on a laptop within minutes.
        {.preset = "demo",
         .family = "llama",
         .vocab_size = 320,
         .hidden_size = 256,
         .layers = 8,
         .heads = 4,
         .kv_heads = 2,
         .head_dim = 64,
         .intermediate_size = 704,
         .max_positions = 1024},
        // A mixture of experts of about its size, for trying things out.
        {.preset = "qwen3-moe-demo",
         .family = "qwen3_moe",
         .vocab_size = 320,
         .hidden_size = 256,
         .layers = 4,
         .heads = 4,
         .kv_heads = 2,
         .head_dim = 64,
         .intermediate_size = 768,
         .max_positions = 1024,
         .norm_eps = 1e-6,
         .num_experts = 8,
         .num_experts_per_tok = 2,
         .moe_intermediate_size = 256},
        // The 50,257 tokens of GPT-2, padded to a multiple of 128.
        {.preset = "gpt2-124m",
         .family = "gpt2",
         .vocab_size = 50304,
         .hidden_size = 768,
         .layers = 12,
         .heads = 12,
         .kv_heads = 12,
         .head_dim = 64,
         .intermediate_size = 3072,
         .max_positions = 1024},
        {.preset = "llama-125m",
         .family = "llama",
         .vocab_size = 50304,
         .hidden_size = 768,
         .layers = 12,
         .heads = 12,
         .kv_heads = 12,
         .head_dim = 64,
         .intermediate_size = 2048,
         .max_positions = 2048},
        {.preset = "tinyllama-1.1b",
         .family = "llama",
         .vocab_size = 32000,
         .hidden_size = 2048,
         .layers = 22,
         .heads = 32,
         .kv_heads = 4,
         .head_dim = 64,
         .intermediate_size = 5632,
         .max_positions = 2048,
         .tie_embeddings = false},
        {.preset = "qwen2.5-1.5b",
         .family = "qwen2",
         .vocab_size = 151936,
         .hidden_size = 1536,
         .layers = 28,
         .heads = 12,
         .kv_heads = 2,
         .head_dim = 128,
         .intermediate_size = 8960,
         .max_positions = 32768,
         .rope_theta = 1e6,
         .norm_eps = 1e-6,
         .tie_embeddings = true},
        {.preset = "qwen2.5-7b",
         .family = "qwen2",
         .vocab_size = 152064,
         .hidden_size = 3584,
         .layers = 28,
         .heads = 28,
         .kv_heads = 4,
         .head_dim = 128,
         .intermediate_size = 18944,
         .max_positions = 32768,
         .rope_theta = 1e6,
         .norm_eps = 1e-6,
         .tie_embeddings = false},
        {.preset = "qwen3-8b",
         .family = "qwen3",
         .vocab_size = 151936,
         .hidden_size = 4096,
         .layers = 36,
         .heads = 32,
         .kv_heads = 8,
         .head_dim = 128,
         .intermediate_size = 12288,
         .max_positions = 40960,
         .rope_theta = 1e6,
         .norm_eps = 1e-6,
         .tie_embeddings = false},
        {.preset = "llama2-7b",
         .family = "llama",
         .vocab_size = 32000,
         .hidden_size = 4096,
         .layers = 32,
         .heads = 32,
         .kv_heads = 32,
         .head_dim = 128,
         .intermediate_size = 11008,
         .max_positions = 4096,
         .tie_embeddings = false},
        {.preset = "qwen3-30b-a3b",
         .family = "qwen3_moe",
         .vocab_size = 151936,
         .hidden_size = 2048,
         .layers = 48,
         .heads = 32,
         .kv_heads = 4,
         .head_dim = 128,
         .intermediate_size = 6144,
         .max_positions = 40960,
         .rope_theta = 1e6,
         .norm_eps = 1e-6,
         .tie_embeddings = false,
         .num_experts = 128,
         .num_experts_per_tok = 8,
         .moe_intermediate_size = 768},
    };
    return table;
}

}  // namespace

std::vector<std::string> model_preset_names() {
    std::vector<std::string> names;
    for (const auto& model : presets()) {
        names.push_back(model.preset);
    }
    return names;
}

const RunConfig::Model& model_preset(std::string_view name) {
    for (const auto& model : presets()) {
        if (model.preset == name) {
            return model;
        }
    }
    fail_usage("model.preset: expected one of {}, got '{}'", fmt::join(model_preset_names(), ", "),
               name);
}

}  // namespace octavo
