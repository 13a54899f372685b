#include <fmt/format.h>

#include <cmath>

#include "base/file.h"
#include "models/architecture.h"
#include "models/stored_weights.h"
#include "text/json_reader.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

// A value from a file as an error may show it.
std::string shown(const Json& value) { return printable(value.dump()); }

// Typed access with errors that name the file and the key.
class Reader {
  public:
    Reader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

    bool has(std::string_view key) const { return json_.contains(key) && !json_[key].is_null(); }

    // Within bounds in which sums and small multiples of sizes cannot overflow.
    std::int64_t integer(std::string_view key) const {
        require(key);
        const Json& value = json_[key];
        check(value.is_number_integer(), "{}: {} must be an integer, got {}", where_, key,
              shown(value));
        check(std::abs(value.get<double>()) < 0x1p31, "{}: {} must be below 2^31, got {}", where_,
              key, shown(value));
        return value.get<std::int64_t>();
    }
    std::int64_t integer(std::string_view key, std::int64_t otherwise) const {
        return has(key) ? integer(key) : otherwise;
    }
    double number(std::string_view key) const {
        require(key);
        check(json_[key].is_number(), "{}: {} must be a number, got {}", where_, key,
              shown(json_[key]));
        return json_[key].get<double>();
    }
    double number(std::string_view key, double otherwise) const {
        return has(key) ? number(key) : otherwise;
    }
    bool boolean(std::string_view key, bool otherwise) const {
        if (!has(key)) return otherwise;
        check(json_[key].is_boolean(), "{}: {} must be true or false, got {}", where_, key,
              shown(json_[key]));
        return json_[key].get<bool>();
    }
    std::string string(std::string_view key, std::string_view otherwise) const {
        if (!has(key)) return std::string(otherwise);
        check(json_[key].is_string(), "{}: {} must be a string, got {}", where_, key,
              shown(json_[key]));
        return json_[key].get<std::string>();
    }
    Reader object(std::string_view key) const {
        check(json_[key].is_object(), "{}: {} must be an object, got {}", where_, key,
              shown(json_[key]));
        return {json_[key], fmt::format("{}: {}", where_, key)};
    }

    // A switch that Octavo knows in one position only.
    void refuse_unless(std::string_view key, const Json& supported) const {
        if (!has(key) || json_[key] == supported) return;
        fail(
            "{}: {} = {} changes the mathematics and is not supported.\n  Octavo has {} = {} only.",
            where_, key, shown(json_[key]), key, shown(supported));
    }

    const std::string& where() const { return where_; }
    const Json& json() const { return json_; }

  private:
    void require(std::string_view key) const {
        check(has(key), "{}: key {} is missing", where_, key);
    }
    const Json& json_;
    std::string where_;
};

RopeScaling read_rope_scaling(const Reader& r) {
    const std::string kind = r.string("rope_type", r.string("type", "default"));
    if (kind == "default") return {};
    check(kind == "llama3", "{}: rope_type '{}' is not supported.\n  Supported: default, llama3.",
          r.where(), kind);
    return {.kind = RopeScaling::Kind::llama3,
            .factor = r.number("factor"),
            .low_freq_factor = r.number("low_freq_factor"),
            .high_freq_factor = r.number("high_freq_factor"),
            .original_max_positions = r.integer("original_max_position_embeddings")};
}

// transformers <= 4 has rope_theta (Llama 2 lacks it) and rope_scaling, >= 5 both in
// rope_parameters.
void read_rope(const Reader& r, Architecture& a) {
    Architecture other = a;
    other.rope_theta = r.number("rope_theta", 10000.0);
    if (r.has("rope_scaling")) other.rope_scaling = read_rope_scaling(r.object("rope_scaling"));
    r.refuse_unless("partial_rotary_factor", 1.0);
    if (r.has("rope_parameters")) {
        const Reader rope = r.object("rope_parameters");
        rope.refuse_unless("partial_rotary_factor", 1.0);
        a.rope_theta = rope.number("rope_theta");
        a.rope_scaling = read_rope_scaling(rope);
        const bool agree = (!r.has("rope_theta") || other.rope_theta == a.rope_theta) &&
                           (!r.has("rope_scaling") || other.rope_scaling == a.rope_scaling);
        check(agree,
              "{}: rope_parameters and rope_theta / rope_scaling contradict each other.\n"
              "  Keep one of the two dialects.",
              r.where());
    } else {
        a = other;
    }
}

// Of weights alone (models/stored_weights.h).
void check_quantisation(const Reader& r) {
    const std::string method = r.string("quant_method", "");
    check(method == "fp8",
          "{}: quant_method '{}' is not supported.\n  Supported: fp8. Use the BF16 or FP32 weights "
          "of this model.",
          r.where(), method);
    r.refuse_unless("fmt", "e4m3");
    const std::string scheme = r.string("activation_scheme", "dynamic");
    check(scheme == "dynamic",
          "{}: activation_scheme '{}' is not supported: activations are scaled as the recipe says, "
          "and no input_scale is read.\n  Set it to \"dynamic\" to use the weights alone.",
          r.where(), scheme);
    r.refuse_unless("weight_block_size", Json::array({kWeightBlock, kWeightBlock}));
}

std::vector<std::int64_t> integers(const Reader& r, std::string_view key) {
    std::vector<std::int64_t> values;
    if (!r.has(key)) return values;
    const Json& list = r.json()[key];
    check(list.is_array(), "{}: {} must be a list, got {}", r.where(), key, shown(list));
    for (const Json& value : list) {
        check(value.is_number_integer(), "{}: {} must be a list of integers, got {}", r.where(),
              key, shown(list));
        values.push_back(value.get<std::int64_t>());
    }
    return values;
}

// transformers <= 4 has num_experts, >= 5 num_local_experts.
std::int64_t read_expert_count(const Reader& r) {
    if (!r.has("num_local_experts")) return r.integer("num_experts");
    const std::int64_t count = r.integer("num_local_experts");
    check(r.integer("num_experts", count) == count,
          "{}: num_experts and num_local_experts contradict each other, got {} and {}.\n"
          "  Keep one of the two dialects.",
          r.where(), r.integer("num_experts", count), count);
    return count;
}

Experts read_experts(const Reader& r) {
    return {.count = read_expert_count(r),
            .per_token = r.integer("num_experts_per_tok", 8),
            .intermediate_size = r.integer("moe_intermediate_size", 768),
            .normalise_gates = r.boolean("norm_topk_prob", false),
            .sparse_step = r.integer("decoder_sparse_step", 1),
            .dense_layers = integers(r, "mlp_only_layers"),
            .aux_loss_coef = r.number("router_aux_loss_coef", 0.001),
            .aux_loss = r.boolean("output_router_logits", false)};
}

Architecture read_llama(const Reader& r, Family family) {
    Architecture a{.family = family,
                   .vocab_size = r.integer("vocab_size"),
                   .hidden_size = r.integer("hidden_size"),
                   .layers = r.integer("num_hidden_layers"),
                   .heads = r.integer("num_attention_heads"),
                   .intermediate_size = r.integer("intermediate_size"),
                   .max_positions = r.integer("max_position_embeddings"),
                   .norm_eps = r.number("rms_norm_eps", 1e-6),
                   .tie_embeddings = r.boolean("tie_word_embeddings", false)};
    check(a.heads > 0, "{}: num_attention_heads must be positive, got {}", r.where(), a.heads);
    a.kv_heads = r.integer("num_key_value_heads", a.heads);
    a.head_dim = r.integer("head_dim", family == Family::qwen3 ? 128 : a.hidden_size / a.heads);
    if (family == Family::qwen3_moe) a.experts = read_experts(r);
    read_rope(r, a);
    r.refuse_unless("hidden_act", "silu");
    r.refuse_unless("mlp_bias", false);
    r.refuse_unless("attention_bias", false);
    r.refuse_unless("use_sliding_window", false);
    r.refuse_unless("pretraining_tp", 1);
    if (family == Family::llama) r.refuse_unless("sliding_window", nullptr);
    if (r.has("layer_types")) {
        for (const Json& kind : r.json()["layer_types"]) {
            check(kind == "full_attention",
                  "{}: layer_types has {}, which is not supported.\n  Octavo has full_attention "
                  "only.",
                  r.where(), shown(kind));
        }
    }
    return a;
}

Architecture read_gpt2(const Reader& r) {
    Architecture a{.family = Family::gpt2,
                   .vocab_size = r.integer("vocab_size"),
                   .hidden_size = r.integer("n_embd"),
                   .layers = r.integer("n_layer"),
                   .heads = r.integer("n_head"),
                   .max_positions = r.integer("n_positions"),
                   .norm_eps = r.number("layer_norm_epsilon", 1e-5),
                   .tie_embeddings = r.boolean("tie_word_embeddings", true)};
    check(a.heads > 0, "{}: n_head must be positive, got {}", r.where(), a.heads);
    a.kv_heads = a.heads;
    a.head_dim = a.hidden_size / a.heads;
    a.intermediate_size = r.integer("n_inner", 4 * a.hidden_size);
    const std::string activation = r.string("activation_function", "gelu_new");
    check(activation == "gelu_new" || activation == "gelu_pytorch_tanh",
          "{}: activation_function '{}' is not supported.\n  Supported: gelu_new, "
          "gelu_pytorch_tanh.",
          r.where(), activation);
    r.refuse_unless("tie_word_embeddings", true);
    r.refuse_unless("scale_attn_weights", true);
    r.refuse_unless("scale_attn_by_inverse_layer_idx", false);
    r.refuse_unless("add_cross_attention", false);
    return a;
}

}  // namespace

Architecture parse_hf_config(std::string_view text, const std::string& where) {
    Json json;
    try {
        json = read_json(text);
    } catch (const Error& e) {
        throw e.in(where);
    }
    const Reader r(json, where);
    const std::string type = r.string("model_type", "");
    check(!type.empty(), "{}: key model_type is missing", where);
    if (r.has("quantization_config")) check_quantisation(r.object("quantization_config"));
    Family family;
    try {
        family = family_named(type);
    } catch (const Error& e) {
        throw e.in(where);
    }
    const Architecture a = family == Family::gpt2 ? read_gpt2(r) : read_llama(r, family);
    try {
        check_architecture(a);
    } catch (const Error& e) {
        throw e.in(where);
    }
    return a;
}

std::string read_dropout(const std::filesystem::path& folder) {
    const auto path = folder / "config.json";
    const Json json = read_json(read_file(path, kLongestConfig));
    const Reader r(json, path.string());
    std::string found;
    for (const char* key : {"attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"}) {
        const double share = r.number(key, 0);
        if (share != 0) found += fmt::format("{}{} = {}", found.empty() ? "" : ", ", key, share);
    }
    return found;
}

Architecture read_hf_config(const std::filesystem::path& folder) {
    const auto path = folder / "config.json";
    return parse_hf_config(read_file(path, kLongestConfig), path.string());
}

namespace {

using OrderedJson = nlohmann::ordered_json;

// The number of experts in both dialects: other programs ask for the older one.
void write_experts(const Experts& e, OrderedJson& j) {
    j["num_experts"] = e.count;
    j["num_local_experts"] = e.count;
    j["num_experts_per_tok"] = e.per_token;
    j["moe_intermediate_size"] = e.intermediate_size;
    j["norm_topk_prob"] = e.normalise_gates;
    j["decoder_sparse_step"] = e.sparse_step;
    j["mlp_only_layers"] = e.dense_layers;
    j["router_aux_loss_coef"] = e.aux_loss_coef;
    j["output_router_logits"] = e.aux_loss;
}

}  // namespace

std::string to_hf_config(const Architecture& a, std::string_view dtype) {
    OrderedJson j;
    if (a.family == Family::gpt2) {
        j = {{"architectures", {"GPT2LMHeadModel"}},
             {"model_type", "gpt2"},
             {"activation_function", "gelu_new"},
             {"n_embd", a.hidden_size},
             {"n_layer", a.layers},
             {"n_head", a.heads},
             {"n_positions", a.max_positions},
             {"n_inner", a.intermediate_size},
             {"layer_norm_epsilon", a.norm_eps}};
    } else {
        std::string type(name(a.family)), class_name = type;
        class_name[0] = static_cast<char>(std::toupper(class_name[0]));
        if (a.family == Family::qwen3_moe) class_name = "Qwen3Moe";
        OrderedJson rope = {{"rope_theta", a.rope_theta}, {"rope_type", "default"}};
        if (const RopeScaling& s = a.rope_scaling; s.kind == RopeScaling::Kind::llama3) {
            rope = {{"rope_theta", a.rope_theta},
                    {"rope_type", "llama3"},
                    {"factor", s.factor},
                    {"low_freq_factor", s.low_freq_factor},
                    {"high_freq_factor", s.high_freq_factor},
                    {"original_max_position_embeddings", s.original_max_positions}};
        }
        j = {{"architectures", {class_name + "ForCausalLM"}},
             {"model_type", type},
             {"hidden_act", "silu"},
             {"hidden_size", a.hidden_size},
             {"intermediate_size", a.intermediate_size},
             {"num_hidden_layers", a.layers},
             {"num_attention_heads", a.heads},
             {"num_key_value_heads", a.kv_heads},
             {"head_dim", a.head_dim},
             {"max_position_embeddings", a.max_positions},
             {"rms_norm_eps", a.norm_eps},
             {"rope_parameters", rope}};
        if (a.family == Family::qwen3_moe) write_experts(a.experts, j);
    }
    j["vocab_size"] = a.vocab_size;
    j["tie_word_embeddings"] = a.tie_embeddings;
    j["dtype"] = dtype;
    return j.dump(2) + "\n";
}

}  // namespace octavo
