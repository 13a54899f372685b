#include "train/setup.h"

namespace octavo {

Architecture architecture_of(const RunConfig& config) {
    const RunConfig::Model& m = config.model;
    if (!m.path.empty()) return read_hf_config(m.path);
    const Architecture a{.family = family_named(m.family),
                         .vocab_size = m.vocab_size,
                         .hidden_size = m.hidden_size,
                         .layers = m.layers,
                         .heads = m.heads,
                         .kv_heads = m.kv_heads,
                         .head_dim = m.head_dim,
                         .intermediate_size = m.intermediate_size,
                         .max_positions = m.max_positions,
                         .rope_theta = m.rope_theta,
                         .norm_eps = m.norm_eps,
                         .tie_embeddings = m.tie_embeddings || m.family == "gpt2"};
    check_architecture(a);
    return a;
}

Recipe recipe_of(const RunConfig& config) {
    Recipe r = recipe_named(config.recipe.name);
    r.quantise_head = config.recipe.fp8_lm_head;
    r.window = static_cast<int>(config.recipe.history);
    for (std::optional<Format>* format : {&r.activation, &r.weight, &r.output_grad}) {
        if (!*format) continue;
        (*format)->margin = static_cast<int>(config.recipe.margin);
        (*format)->rounding =
            config.recipe.scale_rounding == "exact" ? ScaleRounding::exact : ScaleRounding::pow2;
    }
    r.cache_weights = config.recipe.weight_cast == "cached";
    r.states = fp8_lm_states(config.recipe.level);
    const RunConfig::Optimizer& o = config.optimizer;
    const auto set = [](Dtype& dtype, const std::string& text) {
        if (text != "auto") dtype = dtype_named(text).value_or(Dtype::f32);
    };
    set(r.states.master, o.master);
    set(r.states.gradient, o.gradient);
    set(r.states.gradient_sum, o.gradient_sum);
    set(r.states.m, o.m);
    set(r.states.v, o.v);
    if (r.states.master != Dtype::f32 && r.compute == Dtype::f32) {
        fail_usage("optimizer.master: recipe {} computes in {} and needs f32 masters, got {}",
                   r.name, name(r.compute), o.master);
    }
    return r;
}

StepOptions step_options_of(const RunConfig& config) {
    const RunConfig::Train& t = config.train;
    return {.architecture = architecture_of(config),
            .recipe = recipe_of(config),
            .batch = t.batch,
            .seq = t.seq,
            .adamw = {.beta1 = static_cast<float>(t.beta1),
                      .beta2 = static_cast<float>(t.beta2),
                      .eps = static_cast<float>(t.eps),
                      .weight_decay = static_cast<float>(t.weight_decay)},
            .clip = static_cast<float>(t.clip),
            .recompute = recompute_named(config.runtime.recompute),
            .fuse = config.runtime.fuse};
}

std::int64_t memory_limit(const RunConfig& config, const Backend& backend) {
    const double gb = config.runtime.memory_limit_gb;
    return gb > 0 ? static_cast<std::int64_t>(gb * 1e9) : backend.available_bytes();
}

std::string describe(const Architecture& a) {
    return fmt::format("{}, {} layers of {}", name(a.family), a.layers, a.hidden_size);
}

std::string describe(const RunConfig::Recipe& r) {
    return r.level == "O0" ? r.name : r.name + " " + r.level;
}

}  // namespace octavo
