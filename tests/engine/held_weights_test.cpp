// What an engine of a published model would hold, planned without memory for it.
#include <set>

#include "backends/cpu/cpu.h"
#include "config/model_presets.h"
#include "engine/engine_testing.h"
#include "models/experts.h"
#include "passes/join_products.h"
#include "train/setup.h"

namespace octavo {
namespace {

Architecture preset(std::string_view name) {
    RunConfig config;
    config.model = model_preset(name);
    return architecture_of(config);
}

// The weights that generation loads: names of folders, and dtypes.
struct Held {
    std::map<std::string, Dtype> weights;
    std::int64_t bytes = 0;
};

Held held(const Architecture& arch, const char* recipe_name) {
    Recipe recipe = recipe_named(recipe_name);
    recipe.whole_blocks = true;
    const auto backend = make_cpu_backend();
    const Target target = backend->target();
    std::map<std::string, Type> loaded;
    for (const Graph& g : {body_graph(arch, recipe, 1, 1, 1, {}, false, target),
                           head_graph(arch, recipe, 1, 1, target)}) {
        for (const Node& n : g.nodes()) {
            const auto* load = std::get_if<Load>(&n.op);
            if (load && !load->name.starts_with("kv")) loaded[load->name] = load->type;
        }
    }
    std::map<std::string, Shape> shapes;
    for (const Parameter& p : parameters(arch)) shapes[p.name] = p.shape;
    Held all;
    for (const auto& [state, type] : loaded) {
        all.bytes += total_bytes(type);
        for (const std::string& part : joined_parts(parameter_of(state))) {
            for (const StoredParameter& s : stored_parameters(part, shapes.at(part))) {
                EXPECT_TRUE(all.weights.emplace(s.name, type.dtype).second) << s.name;
            }
        }
    }
    return all;
}

// FP8-RL, arXiv 2601.18150: the Linear layers, experts among them, and nothing else.
TEST(HeldWeights, InFp8AreThoseOfQwen3_8b) {
    std::map<std::string, Dtype> want{{"model.embed_tokens.weight", Dtype::bf16},
                                      {"model.norm.weight", Dtype::f32},
                                      {"lm_head.weight", Dtype::bf16}};
    for (int i = 0; i < 36; ++i) {
        const std::string layer = fmt::format("model.layers.{}.", i);
        for (const char* linear :
             {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
              "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
            want[layer + linear + ".weight"] = Dtype::e4m3;
        }
        for (const char* norm : {"self_attn.q_norm", "self_attn.k_norm", "input_layernorm",
                                 "post_attention_layernorm"}) {
            want[layer + norm + ".weight"] = Dtype::f32;
        }
    }
    EXPECT_EQ(held(preset("qwen3-8b"), "blockwise").weights, want);
}

TEST(HeldWeights, InFp8AreThoseOfQwen3_30bA3b) {
    std::map<std::string, Dtype> want{{"model.embed_tokens.weight", Dtype::bf16},
                                      {"model.norm.weight", Dtype::f32},
                                      {"lm_head.weight", Dtype::bf16}};
    for (int i = 0; i < 48; ++i) {
        const std::string layer = fmt::format("model.layers.{}.", i);
        for (const char* linear : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
            want[layer + "self_attn." + linear + ".weight"] = Dtype::e4m3;
        }
        for (const char* norm : {"self_attn.q_norm", "self_attn.k_norm", "input_layernorm",
                                 "post_attention_layernorm"}) {
            want[layer + norm + ".weight"] = Dtype::f32;
        }
        want[layer + "mlp.gate.weight"] = Dtype::f32;  // the router
        for (int e = 0; e < 128; ++e) {
            for (const char* linear : {"gate_proj", "up_proj", "down_proj"}) {
                want[fmt::format("{}mlp.experts.{}.{}.weight", layer, e, linear)] = Dtype::e4m3;
            }
        }
    }
    EXPECT_EQ(held(preset("qwen3-30b-a3b"), "blockwise").weights, want);
}

TEST(HeldWeights, OfQwen3_8bTake9GbInsteadOf16) {
    EXPECT_NEAR(static_cast<double>(held(preset("qwen3-8b"), "blockwise").bytes), 9.4e9, 0.094e9);
    EXPECT_NEAR(static_cast<double>(held(preset("qwen3-8b"), "bf16").bytes), 16.4e9, 0.164e9);
}

}  // namespace
}  // namespace octavo
