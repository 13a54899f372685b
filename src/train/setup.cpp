#include "train/setup.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/layer_name.h"

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
                         .tie_embeddings = m.tie_embeddings || m.family == "gpt2",
                         .experts = {.count = m.num_experts,
                                     .per_token = m.num_experts_per_tok,
                                     .intermediate_size = m.moe_intermediate_size,
                                     .normalise_gates = m.norm_topk_prob,
                                     .sparse_step = m.decoder_sparse_step}};
    check_architecture(a);
    return a;
}

namespace {

// A set option that nothing has a use for is a mistake.
void refuse_key(bool set, std::string_view key, std::string_view why) {
    if (set) fail_usage("{}: {}\n  Leave it out.", key, why);
}
void refuse_option(bool set, std::string_view key, const Recipe& r, std::string_view why) {
    refuse_key(set, fmt::format("recipe.{}", key), fmt::format("recipe {} {}", r.name, why));
}

bool has_groups(const Format& f) { return f.granularity == Granularity::micro; }
bool has_blocks(const Format& f) { return f.granularity == Granularity::block_1x128; }
bool has_tensor_scale(const Format& f) { return f.granularity == Granularity::tensor; }

void set_groups(Recipe& r, const RunConfig::Recipe& o) {
    const bool groups = r.activation && has_groups(*r.activation);
    refuse_option(!groups && o.group != 0, "group", r, "has no micro groups");
    refuse_option(!groups && o.global_scale != "auto", "global_scale", r, "has no micro groups");
    if (o.group != 0 && o.group != 32 && o.group != 64 && o.group != 128) {
        fail_usage("recipe.group: expected 32, 64 or 128, got {}", o.group);
    }
    for (std::optional<Format>* format : {&r.activation, &r.output_grad}) {
        if (!groups || !*format) continue;
        if (o.group != 0) (*format)->group = static_cast<int>(o.group);
        (*format)->global = o.global_scale == "tensor";
    }
}

void set_prediction(Recipe& r, const RunConfig::Recipe& o, const RunConfig::Train& t) {
    const bool one_scale = r.weight && has_tensor_scale(*r.weight);
    refuse_option(!one_scale && o.weight_scale != "auto", "weight_scale", r,
                  "has no weights under one scale");
    if (o.weight_scale == "predicted") r.weight->provider = Provider::predicted;
    if (o.weight_scale == "measured") r.weight->provider = Provider::recorded;
    const RunConfig::Recipe plain;
    const bool predicts = predicts_scales(r);
    refuse_option(!predicts && o.bound != plain.bound, "bound", r, "predicts no scales");
    refuse_option(!predicts && o.interval != plain.interval, "interval", r, "predicts no scales");
    if (!predicts) return;
    r.prediction.interval = o.interval;
    if (o.bound == "adam") r.prediction.bound = adam_bound(t.beta1, t.beta2);
}

void set_scales(Recipe& r, const RunConfig::Recipe& o) {
    const bool fine = !r.activation || !has_tensor_scale(*r.activation);
    refuse_option(fine && o.margin != 0, "margin", r, "has no delayed scales to leave room in");
    refuse_option(fine && o.history != RunConfig::Recipe{}.history, "history", r,
                  "has no delayed scales");
    refuse_option(fine && o.fp8_lm_head, "fp8_lm_head", r, "has no head in 8 bits");
    const bool current = o.activation_scale == "current";
    refuse_option(fine && current, "activation_scale", r, "has no delayed scales to do without");
    refuse_option(current && o.history != RunConfig::Recipe{}.history, "history", r,
                  "has no delayed scales where recipe.activation_scale is current");
    refuse_option(current && o.fp8_lm_head, "fp8_lm_head", r,
                  "has delayed scales in the head, which recipe.activation_scale = current is not");
    refuse_option(!r.output_grad && o.gradient != "auto", "gradient", r,
                  "keeps output gradients unscaled");
    const bool groups = r.activation && has_groups(*r.activation);
    refuse_option(groups && o.scale_rounding == "pow2", "scale_rounding", r,
                  "has powers of two below exact scales");
    refuse_option(!(r.activation && has_blocks(*r.activation)) && o.block_rule != "recip",
                  "block_rule", r, "has no scales of blocks");
    r.quantise_head = o.fp8_lm_head;
    r.window = static_cast<int>(o.history);
    for (std::optional<Format>* format : {&r.activation, &r.weight, &r.output_grad}) {
        if (!*format) continue;
        if (current && format != &r.weight) (*format)->provider = Provider::current;
        (*format)->margin = static_cast<int>(o.margin);
        if (o.scale_rounding == "exact") (*format)->rounding = ScaleRounding::exact;
        if (o.scale_rounding == "pow2") (*format)->rounding = ScaleRounding::pow2;
        if (o.block_rule == "te") (*format)->block_rule = BlockRule::te;
    }
    if (o.gradient != "auto") r.output_grad->dtype = *dtype_named(o.gradient);
}

// Other recipes' quotients have the format of their activations, measured now.
void set_smooth(Recipe& r, const RunConfig& config) {
    const RunConfig::Smooth &o = config.smooth, plain;
    if (o.granularity == "token" || o.granularity == "channel") {
        refuse_key(!r.activation, "smooth.granularity",
                   fmt::format("recipe {} quantises no activations", r.name));
        refuse_key(r.propagation.has_value(), "smooth.granularity",
                   fmt::format("recipe {} has no scales that a spike could break", r.name));
        if (!r.smooth) r.smooth.emplace();
        r.smooth->axis = o.granularity == "token" ? Axis::row : Axis::column;
    }
    if (o.granularity == "off") r.smooth.reset();
    if (!r.smooth) {
        refuse_key(o.rounding != plain.rounding, "smooth.rounding", "there is no Smooth-SwiGLU");
        refuse_key(o.source != plain.source, "smooth.source", "there is no Smooth-SwiGLU");
        refuse_key(o.channel_update != plain.channel_update, "smooth.channel_update",
                   "there is no Smooth-SwiGLU");
        refuse_key(o.export_window != plain.export_window, "smooth.export_window",
                   "there is no Smooth-SwiGLU");
        return;
    }
    r.smooth->step_before = o.channel_update == "step";
    refuse_key(r.smooth->step_before && r.smooth->axis == Axis::row, "smooth.channel_update",
               "factors are those of tokens, which are of one micro-batch");
    r.smooth->export_window = o.export_window;
    refuse_key(o.export_window > 0 && r.smooth->axis == Axis::row, "smooth.export_window",
               "factors are those of tokens, and only those of channels can be exported");
    const bool delayed = o.source == "delayed";
    refuse_key(delayed && !has_tensor_scale(*r.activation), "smooth.source",
               fmt::format("recipe {} has no delayed scales", r.name));
    refuse_key(delayed && config.recipe.activation_scale == "current", "smooth.source",
               "recipe.activation_scale is current, which leaves no scales of past steps");
    r.smooth->hidden = *r.activation;
    r.smooth->hidden.provider = delayed ? Provider::delayed : Provider::current;
    if (o.rounding == "exact") r.smooth->rounding = ScaleRounding::exact;
}

void set_propagation(Recipe& r, const RunConfig::Recipe& o) {
    const RunConfig::Recipe plain;
    refuse_option(!r.propagation && o.run != plain.run, "run", r, "does not propagate scales");
    refuse_option(r.propagation && o.scale_rounding != "auto", "scale_rounding", r,
                  "has no scales but powers of two");
    const Recipe published = r;
    if (r.propagation) set_scalify_run(r, static_cast<int>(o.run));
    const std::string in_run = published.propagation ? fmt::format(" in run {}", o.run) : "";
    const auto refuse = [&](bool set, std::string_view key) {
        refuse_option(!r.propagation && set, key, r, "does not propagate scales" + in_run);
    };
    refuse(o.compute != plain.compute, "compute");
    refuse(o.matmul != plain.matmul, "matmul");
    refuse(o.rescale != plain.rescale, "rescale");
    refuse(o.statistic != plain.statistic, "statistic");
    refuse(o.norm_eps != plain.norm_eps, "norm_eps");
    refuse(o.attention_rebalance != plain.attention_rebalance, "attention_rebalance");
    refuse(o.cast != plain.cast, "cast");
    refuse(o.state_rescale != plain.state_rescale, "state_rescale");
    if (r.propagation) {
        Propagation& p = *r.propagation;
        if (o.compute != "auto") r.compute = *dtype_named(o.compute);
        if (o.matmul == "compute") r.activation = r.weight = r.output_grad = std::nullopt;
        if (o.matmul == "fp8") {
            r.activation = published.activation;
            r.weight = published.weight;
            r.output_grad = published.output_grad;
        }
        if (o.rescale != "auto") {
            p.rescale_norms = o.rescale != "none";
            p.rescale_weight_gradients = o.rescale == "norm+wgrad";
        }
        p.statistic = o.statistic == "l1"    ? Statistic::l1
                      : o.statistic == "max" ? Statistic::max
                                             : Statistic::l2;
        p.state_rescale = o.state_rescale;
        p.scales = {.exact_eps = o.norm_eps == "exact",
                    .rebalance_attention = o.attention_rebalance,
                    .nan_casts = o.cast == "nan"};
    }
    refuse_option(published.propagation && !r.output_grad && o.gradient != "auto", "gradient", r,
                  "quantises nothing" + in_run);
}

void set_rounding(Recipe& r, const RunConfig& config) {
    if (config.recipe.grad_rounding != "stochastic") return;
    refuse_option(!r.output_grad || !has_tensor_scale(*r.output_grad), "grad_rounding", r,
                  "has no output gradients under one scale");
    if (r.quantise_head) {
        fail_usage(
            "recipe.grad_rounding: expected nearest with recipe.fp8_lm_head, whose gradients are "
            "quantised a chunk of rows at a time, got stochastic");
    }
    r.gradient_noise = static_cast<std::uint64_t>(config.train.seed);
}

void set_layers(Recipe& r, const RunConfig::Recipe& o) {
    const bool quantises = r.activation || r.weight || r.output_grad;
    refuse_option(!quantises && !o.bf16.empty(), "bf16", r, "has no products in 8 bits");
    if (r.compute != Dtype::bf16 && !o.bf16.empty()) {
        fail_usage("recipe.bf16: recipe {} computes in {}\n  Set recipe.compute = \"bf16\", too.",
                   r.name, name(r.compute));
    }
    r.in_compute = o.bf16;
}

// What lies in State of a weight.
void set_states(Recipe& r, const RunConfig& config) {
    const RunConfig::Recipe& level = config.recipe;
    const bool one_scale = r.activation && has_tensor_scale(*r.activation);
    refuse_option(
        !one_scale && level.level != "O0", "level", r,
        "has none of fp8-lm's levels; optimizer.master, gradient, m and v set such states");
    refuse_option(!one_scale && level.weight_cast != "cached", "weight_cast", r,
                  "has no weights to cast in every pass, as fp8-lm does");
    if (level.level == "O3" && level.weight_cast != "cached") {
        fail_usage(
            "recipe.weight_cast: expected cached at level O3, whose working weights are E4M3, got "
            "{}\n  Level O2 has the same masters, gradients and moments without them.",
            level.weight_cast);
    }
    r.cache_weights = level.weight_cast == "cached";
    if (!r.cache_weights && r.smooth && r.smooth->in_state()) {
        fail_usage(
            "recipe.weight_cast: expected cached with smooth.channel_update = \"step\", which is "
            "for casting down projections once a step, got {}",
            level.weight_cast);
    }
    if (level.level != "O0") r.states = fp8_lm_states(level.level);
    const RunConfig::Optimizer &o = config.optimizer, plain;
    const auto set = [](Dtype& dtype, const std::string& text) {
        if (text != "auto") dtype = dtype_named(text).value_or(Dtype::f32);
    };
    const auto set_moment = [](MomentFormat& format, const std::string& text) {
        if (text != "auto") format = dtype_named(text).value_or(Dtype::f32);
        if (text == "expanded") format = kExpandedMoment;
    };
    const auto in_8_bits = [](const MomentFormat& f) { return is_fp8(f.dtype) && !f.expanded; };
    const bool root = o.v_storage == "sqrt_v";
    if (root && in_8_bits(r.states.v)) r.states.v = Dtype::e4m3;
    set(r.states.master, o.master);
    set(r.states.gradient, o.gradient);
    set(r.states.gradient_sum, o.gradient_sum);
    set_moment(r.states.m, o.m);
    set_moment(r.states.v, o.v);
    if (!r.propagation && (o.gradient == "f16" || o.gradient == "e5m2")) {
        fail_usage("optimizer.gradient: recipe {} keeps gradients in f32, bf16 or e4m3, got {}",
                   r.name, o.gradient);
    }
    if (r.propagation && r.states.master == Dtype::e4m3) {
        fail_usage("optimizer.master: recipe {} keeps masters in f32, bf16 or f16, got e4m3",
                   r.name);
    }
    if (r.states.master != Dtype::f32 && r.compute == Dtype::f32) {
        fail_usage("optimizer.master: recipe {} computes in {} and needs f32 masters, got {}",
                   r.name, name(r.compute), name(r.states.master));
    }
    refuse_key(
        root && !in_8_bits(r.states.v), "optimizer.v_storage",
        fmt::format("only second moments in e4m3 or e5m2 are kept as roots, optimizer.v is {}",
                    name(r.states.v)));
    refuse_key(root && r.propagation, "optimizer.v_storage",
               fmt::format("recipe {} has no bounds of roots", r.name));
    refuse_key(!o.v_floor && !in_8_bits(r.states.v), "optimizer.v_floor",
               fmt::format("only second moments in e4m3 or e5m2 have a floor, optimizer.v is {}",
                           name(r.states.v)));
    const auto has_scale = [](const MomentFormat& f) {
        return state_type(f, {}).scaling == kPerTensor;
    };
    const bool scaled = has_scale(r.states.m) || has_scale(r.states.v);
    refuse_option(level.cast == "nan" && !r.activation && !is_fp8(r.states.gradient), "cast", r,
                  fmt::format("casts nothing to 8 bits in run {}", level.run));
    refuse_option(level.rescale == "norm+wgrad" && !scaled, "rescale", r,
                  fmt::format("measures weight gradients for the bounds of moments under a scale, "
                              "optimizer.m is {} and v is {}",
                              name(r.states.m), name(r.states.v)));
    refuse_key(r.propagation && o.moment_scale != plain.moment_scale, "optimizer.moment_scale",
               fmt::format("scales of moments follow from bounds in recipe {}", r.name));
    const std::string why = fmt::format("no moment has a scale, optimizer.m is {} and v is {}",
                                        name(r.states.m), name(r.states.v));
    refuse_key(!scaled && o.moment_rounding != plain.moment_rounding, "optimizer.moment_rounding",
               why);
    refuse_key(!scaled && o.moment_scale != plain.moment_scale, "optimizer.moment_scale", why);
}

}  // namespace

Recipe recipe_of(const RunConfig& config) {
    Recipe r = recipe_named(config.recipe.name);
    set_scales(r, config.recipe);
    set_groups(r, config.recipe);
    set_prediction(r, config.recipe, config.train);
    set_propagation(r, config.recipe);
    set_smooth(r, config);
    set_layers(r, config.recipe);
    set_rounding(r, config);
    set_states(r, config);
    return r;
}

void check_layers(const Recipe& r, const Architecture& a) {
    const std::vector<std::string> layers = linear_layers(a);
    for (const std::string& name : r.in_compute) {
        const auto named = [&](const std::string& layer) { return names_layer(name, layer); };
        if (std::ranges::any_of(layers, named)) continue;
        std::vector<std::string> known;
        for (const std::string& layer : layers) {
            std::string last = layer.substr(layer.rfind('.') + 1);
            if (std::ranges::find(known, last) == known.end()) known.push_back(std::move(last));
        }
        fail_usage(
            "recipe.bf16: the model has no Linear layer '{}'\n"
            "  Layers: {}. With the blocks' numbers, from {} to {}.",
            name, fmt::join(known, ", "), layers.front(), layers[layers.size() - 2]);
    }
}

StepOptions step_options_of(const RunConfig& config) {
    const RunConfig::Train& t = config.train;
    const RunConfig::Optimizer& o = config.optimizer;
    const Architecture architecture = architecture_of(config);
    const Recipe recipe = recipe_of(config);
    check_layers(recipe, architecture);
    if (recipe.smooth && architecture.family == Family::gpt2) {
        fail_usage(
            "smooth.granularity: Smooth-SwiGLU needs a model with SwiGLU, got family gpt2\n"
            "  Take another recipe, or set smooth.granularity = \"off\".");
    }
    const Experts& experts = architecture.experts;
    const bool sparse = experts.count > 0;
    if (recipe.propagation && sparse) {
        fail_usage(
            "recipe.name: recipe {} has no scales for mixtures of experts, got family {}\n"
            "  Take another recipe.",
            recipe.name, name(architecture.family));
    }
    const bool keeps_factors = recipe.smooth && recipe.smooth->export_window > 0;
    refuse_key(sparse && keeps_factors, "smooth.export_window",
               "channels of experts are not folded into weights");
    const auto smoothed = [&](const std::string& layer) {
        return layer.ends_with("down_proj") && recipe.quantises(layer);
    };
    refuse_key(keeps_factors && std::ranges::none_of(linear_layers(architecture), smoothed),
               "smooth.export_window", "recipe.bf16 leaves no layer to smooth");
    refuse_key(!sparse && t.router_aux_loss_coef > 0, "train.router_aux_loss_coef",
               "the model has no routers");
    refuse_key(!sparse && t.router_z_loss_coef > 0, "train.router_z_loss_coef",
               "the model has no routers");
    const double asked = experts.aux_loss ? experts.aux_loss_coef : 0;
    return {.architecture = architecture,
            .recipe = recipe,
            .batch = t.batch,
            .seq = t.seq,
            .documents = config.data.document_mask,
            .adamw = {.beta1 = static_cast<float>(t.beta1),
                      .beta2 = static_cast<float>(t.beta2),
                      .eps = static_cast<float>(t.eps),
                      .weight_decay = static_cast<float>(t.weight_decay),
                      .scale_rounding =
                          o.moment_scale == "pow2" ? ScaleRounding::pow2 : ScaleRounding::exact,
                      .stochastic_moments = o.moment_rounding == "stochastic",
                      .seed = static_cast<std::uint64_t>(t.seed),
                      .sqrt_v = o.v_storage == "sqrt_v",
                      .v_floor = o.v_floor},
            .clip = static_cast<float>(t.clip),
            .router_balance = t.router_aux_loss_coef < 0 ? asked : t.router_aux_loss_coef,
            .router_z = t.router_z_loss_coef,
            .recompute = recompute_named(config.runtime.recompute),
            .fuse = config.runtime.fuse,
            .measure = config.diag.interval > 0};
}

std::int64_t memory_limit(const RunConfig& config, const Backend& backend) {
    const double gb = config.runtime.memory_limit_gb;
    return gb > 0 ? static_cast<std::int64_t>(gb * 1e9) : backend.available_bytes();
}

std::string describe(const Architecture& a) {
    return fmt::format("{}, {} layers of {}{}", name(a.family), a.layers, a.hidden_size,
                       a.experts.count > 0 ? fmt::format(", {} experts", a.experts.count) : "");
}

std::string describe(const RunConfig::Recipe& r) {
    const std::string level = r.level == "O0" ? r.name : r.name + " " + r.level;
    return r.bf16.empty() ? level : fmt::format("{}, {} in bf16", level, fmt::join(r.bf16, ", "));
}

}  // namespace octavo
