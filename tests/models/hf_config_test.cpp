#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/scratch.h"
#include "models/architecture.h"
#include "train/golden.h"

namespace octavo {
namespace {

// `config` with `extra` keys, which override its own.
std::string with(const char* config, const std::string& extra) {
    auto json = nlohmann::json::parse(config);
    json.update(nlohmann::json::parse("{" + extra + "}"));
    return json.dump();
}
// A config of transformers 4.
std::string llama(const std::string& extra = "", const std::string& type = "llama") {
    return with(R"({"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 160, "max_position_embeddings": 256})",
                R"("model_type": ")" + type + (extra.empty() ? "\"" : "\", " + extra));
}
std::string gpt2(const std::string& extra = "") {
    return with(R"({"model_type": "gpt2", "vocab_size": 512, "n_embd": 64, "n_layer": 2,
        "n_head": 4, "n_positions": 256})",
                extra);
}

Architecture parse(const std::string& json) { return parse_hf_config(json, "m/config.json"); }
std::string refusal(const std::string& json) {
    return error_of([&] { parse(json); });
}

TEST(HfConfig, FillsInTheDefaultsOfTransformers) {
    const Architecture want{.family = Family::llama,
                            .vocab_size = 512,
                            .hidden_size = 64,
                            .layers = 2,
                            .heads = 4,
                            .kv_heads = 4,
                            .head_dim = 16,
                            .intermediate_size = 160,
                            .max_positions = 256,
                            .norm_eps = 1e-6};
    // Llama 2 has no rope_theta at all.
    EXPECT_EQ(parse(llama()), want);
    EXPECT_EQ(parse(llama(R"("rope_scaling": null, "num_key_value_heads": null)")), want);
    EXPECT_EQ(parse(llama("", "qwen3")).head_dim, 128);

    const Architecture g = parse(gpt2());
    EXPECT_EQ(g.intermediate_size, 256);
    EXPECT_EQ(g.norm_eps, 1e-5);
    EXPECT_TRUE(g.tie_embeddings);
}

TEST(HfConfig, BothDialectsSayTheSame) {
    const RopeScaling scaling{RopeScaling::Kind::llama3, 8, 1, 4, 64};
    const std::string values = R"("factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64)";
    const Architecture v4 = parse(
        llama(R"("rope_theta": 500000, "rope_scaling": {"rope_type": "llama3", )" + values + "}"));
    const Architecture old =
        parse(llama(R"("rope_theta": 500000, "rope_scaling": {"type": "llama3", )" + values + "}"));
    const Architecture v5 = parse(llama(
        R"("rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", )" + values + "}"));
    EXPECT_EQ(v4.rope_theta, 500000);
    EXPECT_EQ(v4.rope_scaling, scaling);
    EXPECT_EQ(v4, v5);
    EXPECT_EQ(v4, old);
    // Both at once, in agreement.
    EXPECT_EQ(parse(llama(R"("rope_theta": 10.0,
                             "rope_parameters": {"rope_theta": 10, "rope_type": "default"})"))
                  .rope_theta,
              10);
}

// A config of transformers 4 for a mixture of experts.
std::string mixture(const std::string& extra = "") {
    return llama(R"("num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48)" +
                     (extra.empty() ? "" : ", " + extra),
                 "qwen3_moe");
}

TEST(HfConfig, ReadsExpertsInBothDialects) {
    const Experts want{
        .count = 8, .per_token = 2, .intermediate_size = 48, .normalise_gates = false};
    EXPECT_EQ(parse(mixture()).experts, want);
    const std::string v5 = R"("num_local_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 48)";
    EXPECT_EQ(parse(llama(v5, "qwen3_moe")).experts, want);
    const Experts all = parse(mixture(R"("norm_topk_prob": true, "decoder_sparse_step": 2,
        "mlp_only_layers": [0], "router_aux_loss_coef": 0.25, "output_router_logits": true)"))
                            .experts;
    EXPECT_TRUE(all.normalise_gates);
    EXPECT_EQ(all.sparse_step, 2);
    EXPECT_EQ(all.dense_layers, (std::vector<std::int64_t>{0}));
    EXPECT_EQ(all.aux_loss_coef, 0.25);
    EXPECT_TRUE(all.aux_loss);
}

TEST(HfConfig, SurvivesARoundTrip) {
    for (const char* family : {"llama", "llama3-rope", "qwen2", "qwen3", "qwen3-moe", "gpt2"}) {
        SCOPED_TRACE(family);
        const Architecture a = read_hf_config(test::fixture(family));
        const std::string json = to_hf_config(a, "bfloat16");
        EXPECT_EQ(parse(json), a);
        EXPECT_TRUE(contains(json, "\"dtype\": \"bfloat16\""));
        EXPECT_TRUE(contains(
            json, family == std::string("gpt2") ? "\"GPT2LMHeadModel\"" : "ForCausalLM\""));
    }
}

struct Refusal {
    std::string json;
    const char* part;
};

TEST(HfConfig, RefusesByName) {
    const std::string rope4 = R"("rope_theta": 10000.0, "rope_scaling": {"rope_type": )";
    const std::string rope5 = R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": )";
    const Refusal cases[] = {
        {"[1, 2]", "expected a JSON object"},
        {"{\"model_type\": ", "expected JSON, got at byte 16"},
        {"{}", "key model_type is missing"},
        {R"({"model_type": 7})", "model_type must be a string, got 7"},
        {R"({"model_type": "mixtral"})", "model family 'mixtral' is not supported."},
        {R"({"model_type": "llama"})", "key vocab_size is missing"},
        {llama(R"("quantization_config": {"bits": 4})"), "quantization_config: quant_method ''"},
        {llama(R"("quantization_config": {"quant_method": "awq"})"), "quant_method 'awq'"},
        {llama(R"("quantization_config": {"quant_method": "fp8", "fmt": "e5m2"})"), "fmt"},
        {llama(R"("quantization_config": {"quant_method": "fp8", "weight_block_size": [1, 64]})"),
         "weight_block_size"},
        {llama(R"("hidden_size": "64")"), "hidden_size must be an integer, got \"64\""},
        {llama(R"("hidden_size": 64.5)"), "hidden_size must be an integer, got 64.5"},
        {llama(R"("num_hidden_layers": -1)"), "layers must be positive and below 2^31, got -1"},
        {llama(R"("num_attention_heads": 0)"), "num_attention_heads must be positive, got 0"},
        {llama(R"("num_key_value_heads": 3)"), "heads must be a multiple of kv_heads"},
        {llama(R"("head_dim": 7)"), "head_dim must be even"},
        {llama(R"("rms_norm_eps": "small")"), "rms_norm_eps must be a number, got \"small\""},
        {llama(R"("tie_word_embeddings": 1)"), "tie_word_embeddings must be true or false, got 1"},
        {llama(R"("hidden_act": "gelu")"), "hidden_act = \"gelu\" changes the mathematics"},
        {llama(R"("mlp_bias": true)"), "mlp_bias = true changes"},
        {llama(R"("attention_bias": true)"), "attention_bias = true changes"},
        {llama(R"("use_sliding_window": true)", "qwen2"), "use_sliding_window = true changes"},
        {llama(R"("sliding_window": 4096)"), "sliding_window = 4096 changes"},
        {llama(R"("pretraining_tp": 2)"), "pretraining_tp = 2 changes"},
        {llama(R"("partial_rotary_factor": 0.5)"), "partial_rotary_factor = 0.5 changes"},
        {llama(R"("layer_types": ["full_attention", "sliding_attention"])", "qwen3"),
         "layer_types has \"sliding_attention\", which is not supported"},
        {llama(rope4 + R"("yarn", "factor": 4.0})"),
         "rope_scaling: rope_type 'yarn' is not supported.\n  Supported: default, llama3."},
        {llama(R"("rope_scaling": {"type": "linear", "factor": 2.0})"), "rope_type 'linear'"},
        {llama(rope5 + R"("dynamic"})"), "rope_parameters: rope_type 'dynamic' is not supported"},
        {llama(rope5 + R"("llama3"})"), "rope_parameters: key factor is missing"},
        {llama(rope5 + R"("default", "partial_rotary_factor": 0.25})"),
         "rope_parameters: partial_rotary_factor = 0.25 changes"},
        {llama(R"("rope_parameters": {"full_attention": {}})"),
         "rope_parameters: key rope_theta is missing"},
        {llama(R"("rope_parameters": 3)"), "rope_parameters must be an object, got 3"},
        {llama(R"("rope_theta": 5.0, )" + rope5 + R"("default"})"), "contradict each other"},
        {llama(R"("rope_theta": 0)"), "rope_theta must be positive, got 0"},
        {llama("", "qwen3_moe"), "key num_experts is missing"},
        {mixture(R"("num_local_experts": 4)"), "contradict each other, got 8 and 4"},
        {mixture(R"("num_experts_per_tok": 9)"), "experts per token must be 1 to 8, got 9"},
        {mixture(R"("mlp_only_layers": [2])"), "layers without experts must be 0 to 1, got 2"},
        {mixture(R"("mlp_only_layers": 1)"), "mlp_only_layers must be a list, got 1"},
        {mixture(R"("decoder_sparse_step": 0)"), "a sparse step above 0"},
        {llama(R"("quantization_config": {"quant_method": "fp8", "activation_scheme": "static"})"),
         "quantization_config: activation_scheme 'static' is not supported"},
        {gpt2(R"("activation_function": "relu")"), "activation_function 'relu' is not supported"},
        {gpt2(R"("tie_word_embeddings": false)"), "tie_word_embeddings = false changes"},
        {gpt2(R"("scale_attn_weights": false)"), "scale_attn_weights = false changes"},
        {gpt2(R"("scale_attn_by_inverse_layer_idx": true)"), "scale_attn_by_inverse_layer_idx"},
        {gpt2(R"("add_cross_attention": true)"), "add_cross_attention = true changes"},
        {gpt2(R"("n_embd": 66)"), "gpt2 needs hidden_size = heads * head_dim"},
        {gpt2(R"("n_head": 0)"), "n_head must be positive, got 0"},
    };
    for (const Refusal& c : cases) {
        const std::string error = refusal(c.json);
        EXPECT_TRUE(contains(error, c.part)) << c.json;
        EXPECT_TRUE(error.starts_with("m/config.json: ")) << error;
    }
}

TEST(HfConfig, KnowsWhatAsksForDropout) {
    const Scratch folder;
    folder.write("config.json", gpt2(R"("attn_pdrop": 0.1, "embd_pdrop": 0, "resid_pdrop": 0.25)"));
    EXPECT_EQ(read_dropout(folder / ""), "attn_pdrop = 0.1, resid_pdrop = 0.25");
    folder.write("config.json", llama(R"("attention_dropout": 0.0)"));
    EXPECT_EQ(read_dropout(folder / ""), "");
}

TEST(HfConfig, TakesWhatIsSwitchedOff) {
    parse(llama(R"("sliding_window": 32768, "use_sliding_window": false, "max_window_layers": 21)",
                "qwen2"));
    parse(llama(R"("sliding_window": null, "attention_bias": false, "pretraining_tp": 1,
                   "hidden_act": "silu", "partial_rotary_factor": 1.0)"));
    parse(gpt2(R"("activation_function": "gelu_pytorch_tanh", "n_inner": null)"));
}

// What would take long, or all memory, or the stack.
TEST(HfConfig, RefusesTheHostile) {
    const std::string deep(3'000'000, '[');
    const std::string known = "{\"model_type\": \"llama\", \"vocab_size\": ";
    EXPECT_TRUE(contains(refusal(known + deep), ": nested more than 32 deep"));
    EXPECT_TRUE(contains(refusal("{\"unknown\": " + deep), "nested more than 32 deep"));
    EXPECT_TRUE(contains(refusal("{\"model_type\": \"llama\", \"model_type\": \"gpt2\"}"),
                         "'model_type' appears twice"));
    EXPECT_TRUE(contains(refusal(R"({"rope_scaling": {"type": "a", "type": "b"}})"),
                         "rope_scaling: 'type' appears twice"));
    EXPECT_TRUE(contains(refusal(std::string("{}\0{}", 5)), "a NUL byte"));
    const Refusal cases[] = {
        {llama(R"("num_hidden_layers": 2000000000)"),
         "layers must be at most 4096, got 2000000000"},
        {llama(R"("num_hidden_layers": 9223372036854775807)"), "must be below 2^31"},
        {gpt2(R"("n_embd": 9223372036854775807)"), "n_embd must be below 2^31"},
        {llama(R"("num_attention_heads": 2147483647, "head_dim": 2147483646)"),
         "weights, got about"},
        {llama(R"("num_experts": 1000000, "num_hidden_layers": 4096)", "qwen3_moe"),
         "expected at most 262144 experts, got 4096 x 1000000"},
        {llama(R"("num_experts": 8, "mlp_only_layers": [0, 0, 0])", "qwen3_moe"),
         "at most 2 layers without experts, got 3"},
    };
    for (const Refusal& c : cases) EXPECT_TRUE(contains(refusal(c.json), c.part)) << c.json;
    // And no error repeats megabytes.
    EXPECT_LT(refusal(llama("\"vocab_size\": \"" + std::string(1 << 20, 'x') + "\"")).size(), 400u);
}

TEST(HfConfig, RefusesALongFile) {
    const Scratch folder;
    folder.write("config.json", std::string(kLongestConfig + 1, ' '));
    EXPECT_TRUE(contains(error_of([&] { read_hf_config(folder / ""); }),
                         "config.json: expected at most 16777216 bytes, got 16777217"));
}

TEST(HfConfig, NamesTheMissingFile) {
    EXPECT_TRUE(contains(error_of([] { read_hf_config("/nowhere"); }), "/nowhere/config.json"));
}

}  // namespace
}  // namespace octavo
