#include "config/schema.h"

#include <algorithm>
#include <utility>

#include "config/model_presets.h"

namespace octavo {
namespace {

template <class T>
constexpr ValueType type_of() {
    return ValueType(ConfigValue(T{}).index());
}

// Adds the keys of one section to the table.
template <class Struct>
class Section {
  public:
    Section(std::vector<Key>& keys, std::string name, Struct RunConfig::* section)
        : keys_(keys), name_(std::move(name)), section_(section) {}

    template <class T>
    void key(const char* name, T Struct::* member, const char* help, Rule rule = {},
             const char* unit = "") {
        const auto section = section_;
        keys_.push_back({
            .name = name_ + "." + name,
            .help = help,
            .unit = unit,
            .type = type_of<T>(),
            .rule = std::move(rule),
            .get = [=](const RunConfig& config) { return ConfigValue(config.*section.*member); },
            .set = [=](RunConfig& config,
                       const ConfigValue& value) { config.*section.*member = std::get<T>(value); },
        });
    }

  private:
    std::vector<Key>& keys_;
    std::string name_;
    Struct RunConfig::* section_;
};

void add_model(std::vector<Key>& keys) {
    using M = RunConfig::Model;
    Section s(keys, "model", &RunConfig::model);
    s.key("preset", &M::preset, "a named model; other model keys change single values of it",
          one_of(model_preset_names()));
    s.key("path", &M::path, "Hugging Face folder to start from, instead of preset and shape");
    s.key("family", &M::family, "architecture",
          one_of({"llama", "qwen2", "qwen3", "qwen3_moe", "gpt2"}));
    // The upper bounds keep products of a few of these within 64 bits.
    s.key("vocab_size", &M::vocab_size, "rows of the embedding", between(1, 1 << 24), "tokens");
    s.key("hidden_size", &M::hidden_size, "width of the residual stream", between(1, 1 << 20));
    s.key("layers", &M::layers, "transformer blocks", between(1, 4096));
    s.key("heads", &M::heads, "query heads", between(1, 4096));
    s.key("kv_heads", &M::kv_heads, "key and value heads; 0: as many as heads", between(0, 4096));
    s.key("head_dim", &M::head_dim, "width of a head; 0: hidden_size / heads", between(0, 4096));
    s.key("intermediate_size", &M::intermediate_size,
          "width of the feed-forward layer; 0: 4 x hidden_size (gpt2) or 8/3 x hidden_size",
          between(0, 1 << 22));
    s.key("max_positions", &M::max_positions, "longest sequence", between(1, 1 << 24), "tokens");
    s.key("rope_theta", &M::rope_theta, "base of the rotary angles", above(0));
    s.key("norm_eps", &M::norm_eps, "added to the mean square in norms", between(0, 1));
    s.key("tie_embeddings", &M::tie_embeddings, "the output head is the embedding");
    s.key("num_experts", &M::num_experts, "qwen3_moe: experts of a layer", between(0, 1 << 16));
    s.key("num_experts_per_tok", &M::num_experts_per_tok, "qwen3_moe: experts that a token chooses",
          between(0, 1 << 16));
    s.key("moe_intermediate_size", &M::moe_intermediate_size, "qwen3_moe: width of an expert",
          between(0, 1 << 22));
    s.key("decoder_sparse_step", &M::decoder_sparse_step,
          "qwen3_moe: every so many blocks have experts", between(1, 4096));
    s.key("norm_topk_prob", &M::norm_topk_prob, "qwen3_moe: a token's gates add up to 1");
}

void add_data(std::vector<Key>& keys) {
    using D = RunConfig::Data;
    Section s(keys, "data", &RunConfig::data);
    s.key("train", &D::train,
          "token files to train on (from octavo tokenize), or patterns: web/train*.bin");
    s.key("held_out", &D::held_out, "token files to evaluate on; none: no evaluation");
    s.key("weights", &D::weights,
          "shares of the samples for entries of train, stage by stage; none: one stream",
          at_least(0));
    s.key("stages", &D::stages, "steps after which the weights of the next stage hold",
          between(1, 1e9));
    s.key("windows", &D::windows,
          "what a sequence holds: tokens as they come, whole documents, or one document",
          one_of({"stream", "packed", "padded"}));
    s.key("document_mask", &D::document_mask,
          "attention stays within documents, and positions begin anew in each");
    s.key("end_of_text", &D::end_of_text,
          "token that ends documents in files without an index; -1: as tokens.json says",
          at_least(-1));
}

void add_train(std::vector<Key>& keys) {
    using T = RunConfig::Train;
    Section s(keys, "train", &RunConfig::train);
    s.key("steps", &T::steps, "optimizer steps", between(1, 1e9), "steps");
    s.key("batch", &T::batch, "sequences of one micro-batch", between(1, 1 << 16), "sequences");
    s.key("seq", &T::seq, "length of a sequence", between(1, 1 << 24), "tokens");
    s.key("grad_accum", &T::grad_accum, "micro-batches of one step", between(1, 1 << 20));
    s.key("lr", &T::lr, "peak learning rate", at_least(0));
    s.key("min_lr_ratio", &T::min_lr_ratio, "last learning rate, as a share of the peak",
          between(0, 1));
    s.key("schedule", &T::schedule, "course of the learning rate after warm-up",
          one_of({"cosine", "linear", "wsd", "constant"}));
    s.key("warmup_steps", &T::warmup_steps, "linear rise to the peak", between(0, 1e9), "steps");
    s.key("decay_fraction", &T::decay_fraction, "share of the steps that wsd decays in",
          between(0, 1));
    s.key("beta1", &T::beta1, "decay of AdamW's first moment", between_below(0, 1));
    s.key("beta2", &T::beta2, "decay of AdamW's second moment", between_below(0, 1));
    s.key("eps", &T::eps, "added to the root of AdamW's second moment", above(0));
    s.key("weight_decay", &T::weight_decay, "decoupled decay of matrices", at_least(0));
    s.key("clip", &T::clip, "longest gradient norm; 0: no clipping", at_least(0));
    s.key("router_aux_loss_coef", &T::router_aux_loss_coef,
          "load-balancing loss of routers; -1: what config.json asks for, else 0",
          between(-1, 1e6));
    s.key("router_z_loss_coef", &T::router_z_loss_coef, "z-loss of routers", between(0, 1e6));
    s.key("seed", &T::seed, "of initial weights and data order", at_least(0));
}

void add_recipe(std::vector<Key>& keys) {
    using R = RunConfig::Recipe;
    Section s(keys, "recipe", &RunConfig::recipe);
    s.key("name", &R::name, "number formats of training",
          one_of({"fp32", "bf16", "fp8-lm", "moss", "blockwise", "smooth-swiglu", "scalify"}));
    s.key("level", &R::level,
          "fp8-lm: states in few bits, O1 gradients and masters, O2 moments, O3 weights",
          one_of({"O0", "O1", "O2", "O3"}));
    s.key("weight_cast", &R::weight_cast,
          "fp8-lm: FP8 weights lie in memory, or are cast in every pass (O0 to O2)",
          one_of({"cached", "per_forward"}));
    s.key("fp8_lm_head", &R::fp8_lm_head, "the output head in FP8, too: fp8-lm, smooth-swiglu");
    s.key("bf16", &R::bf16,
          "Linear layers that stay in bf16: down_proj, layers.0, layers.0.mlp.down_proj");
    s.key("margin", &R::margin,
          "powers of two that scales of tensors leave free above the largest value", between(0, 8));
    s.key("history", &R::history, "window of the delayed scales", between(1, 1024), "steps");
    s.key("activation_scale", &R::activation_scale,
          "scales of activations and gradients: of past steps, or of their own amax",
          one_of({"delayed", "current"}));
    s.key("scale_rounding", &R::scale_rounding,
          "scales are powers of two, or exact; auto: exact in blockwise, else pow2",
          one_of({"auto", "pow2", "exact"}));
    s.key("block_rule", &R::block_rule,
          "blockwise: a scale is amax / max, or (te) 1 / (max / amax)", one_of({"recip", "te"}));
    s.key("gradient", &R::gradient,
          "codes of output gradients; auto: e4m3 in moss and blockwise, else e5m2",
          one_of({"auto", "e4m3", "e5m2"}));
    s.key("grad_rounding", &R::grad_rounding,
          "output gradients under one scale: to nearest, or up or down at random",
          one_of({"nearest", "stochastic"}));
    s.key("group", &R::group,
          "moss: elements under a power of two of their own, 32, 64 or 128; 0: 32",
          between(0, 128));
    s.key("global_scale", &R::global_scale, "moss: what groups share a scale; auto: row",
          one_of({"auto", "row", "tensor"}));
    s.key("weight_scale", &R::weight_scale,
          "scales of weights, measured or predicted from lr; auto: predicted in moss",
          one_of({"auto", "measured", "predicted"}));
    s.key("bound", &R::bound,
          "predicted scales: AdamW's tight bound on an update / lr, or 1 as MOSS has it",
          one_of({"adam", "paper"}));
    s.key("interval", &R::interval, "predicted scales: steps from one measured amax to the next",
          between(1, 1e9), "steps");
    s.key("run", &R::run,
          "scalify: 0: f32, 1: f16, 2: f16 masters, 3: products in FP8, 4: f16 moments",
          between(0, 4));
    s.key("compute", &R::compute, "scalify: activations and gradients; auto: by recipe.run",
          one_of({"auto", "f16", "bf16", "f32"}));
    s.key("matmul", &R::matmul, "scalify: operands of Linear layers; auto: by recipe.run",
          one_of({"auto", "fp8", "compute"}));
    s.key("rescale", &R::rescale, "scalify: which gradients are measured; auto: by recipe.run",
          one_of({"auto", "none", "norm", "norm+wgrad"}));
    s.key("statistic", &R::statistic, "scalify: what measured gradients go by",
          one_of({"l2", "l1", "max"}));
    s.key("norm_eps", &R::norm_eps, "scalify: eps of norms as in other recipes, or of scaled data",
          one_of({"exact", "data"}));
    s.key("attention_rebalance", &R::attention_rebalance,
          "scalify: the size of attention's result allows for the mean it is");
    s.key("cast", &R::cast, "scalify: what 8 bits cannot hold saturates, or is NaN to compare",
          one_of({"saturate", "nan"}));
    s.key("state_rescale", &R::state_rescale,
          "scalify: steps from one rescale of weights and moments to the next; 0: none",
          between(0, 1e9), "steps");
}

void add_smooth(std::vector<Key>& keys) {
    using S = RunConfig::Smooth;
    Section s(keys, "smooth", &RunConfig::smooth);
    s.key("granularity", &S::granularity,
          "what shares a factor of Smooth-SwiGLU; auto: token in smooth-swiglu, else off",
          one_of({"auto", "off", "token", "channel"}));
    s.key("rounding", &S::rounding, "what is divided out is a power of two, or exact",
          one_of({"pow2", "exact"}));
    s.key("source", &S::source,
          "scale of the quotient: its own amax, or those of past steps as published",
          one_of({"current", "delayed"}));
    s.key("channel_update", &S::channel_update,
          "factors of channels: of this micro-batch, or of the step before",
          one_of({"micro_batch", "step"}));
    s.key("export_window", &S::export_window,
          "last steps whose largest channel factors checkpoints keep; 0: none", between(0, 1e9),
          "steps");
}

void add_optimizer(std::vector<Key>& keys) {
    using O = RunConfig::Optimizer;
    Section s(keys, "optimizer", &RunConfig::optimizer);
    s.key("master", &O::master,
          "master weights of matrices; auto, here and below: by recipe.level, else f32",
          one_of({"auto", "f32", "bf16", "f16", "e4m3"}));
    s.key("gradient", &O::gradient, "gradients of Linear weights",
          one_of({"auto", "f32", "bf16", "f16", "e4m3", "e5m2"}));
    s.key("gradient_sum", &O::gradient_sum,
          "what the micro-batches of a step are summed in before e4m3", one_of({"f32", "bf16"}));
    const Rule moments = one_of({"auto", "f32", "bf16", "f16", "e4m3", "e5m2", "expanded"});
    s.key("m", &O::m, "first moments of matrices; f16 and 8 bits in Linear weights only, else bf16",
          moments);
    s.key("v", &O::v, "second moments, likewise; expanded: e4m3 with the range of 128 neighbours",
          moments);
    s.key("v_storage", &O::v_storage,
          "v in e4m3 or e5m2: as it is, or its root, which needs half the range",
          one_of({"v", "sqrt_v"}));
    s.key("v_floor", &O::v_floor, "v in e4m3 or e5m2: what is above 0 is never rounded to 0");
    s.key("moment_rounding", &O::moment_rounding, "moments in f16 and 8 bits: how they are rounded",
          one_of({"nearest", "stochastic"}));
    s.key("moment_scale", &O::moment_scale,
          "their scales: exact, or powers of two, on whose grid averages freeze",
          one_of({"exact", "pow2"}));
}

void add_eval(std::vector<Key>& keys) {
    using E = RunConfig::Eval;
    Section s(keys, "eval", &RunConfig::eval);
    s.key("every", &E::every, "from one evaluation to the next; 0: never", between(0, 1e9),
          "steps");
    s.key("batches", &E::batches, "micro-batches of one evaluation", between(1, 1e9));
}

void add_diag(std::vector<Key>& keys) {
    using D = RunConfig::Diag;
    Section s(keys, "diag", &RunConfig::diag);
    s.key("interval", &D::interval,
          "from one step that measures its casts and layers to the next; 0: never", between(0, 1e9),
          "steps");
}

void add_checkpoint(std::vector<Key>& keys) {
    using C = RunConfig::Checkpoint;
    Section s(keys, "checkpoint", &RunConfig::checkpoint);
    s.key("every", &C::every, "from one checkpoint to the next; 0: only the last step",
          between(0, 1e9), "steps");
    s.key("keep_last", &C::keep_last, "newest checkpoints to keep", between(1, 1e9));
    s.key("keep_every", &C::keep_every, "checkpoints at multiples of it stay; 0: none",
          between(0, 1e9), "steps");
    s.key("resume", &C::resume, "go on from the newest checkpoint of run.dir",
          one_of({"auto", "never", "must"}));
}

void add_run(std::vector<Key>& keys) {
    using R = RunConfig::Run;
    Section s(keys, "run", &RunConfig::run);
    s.key("dir", &R::dir, "folder of the run; by default runs/<name of the run file>");
    s.key("log_every", &R::log_every, "from one console line to the next", between(1, 1e9),
          "steps");
}

void add_runtime(std::vector<Key>& keys) {
    using R = RunConfig::Runtime;
    Section s(keys, "runtime", &RunConfig::runtime);
    s.key("backend", &R::backend, "where to compute", one_of({"auto", "cpu", "cuda"}));
    s.key("deterministic", &R::deterministic,
          "the same bits in every run on a GPU, too, for a slower attention backward");
    s.key("trace", &R::trace,
          "a GPU that fails names the one step it was at, for a launch per step");
    s.key("threads", &R::threads, "processor threads; 0: all", between(0, 4096));
    s.key("recompute", &R::recompute, "what the backward pass computes again to save memory",
          one_of({"none", "norms", "ffn", "block"}));
    s.key("fuse", &R::fuse, "run fused operations");
    s.key("memory_limit_gb", &R::memory_limit_gb, "refuse larger plans; 0: what the machine has",
          at_least(0), "GB");
}

}  // namespace

const std::vector<Key>& schema() {
    static const std::vector<Key> keys = [] {
        std::vector<Key> all;
        add_model(all);
        add_data(all);
        add_train(all);
        add_recipe(all);
        add_smooth(all);
        add_optimizer(all);
        add_eval(all);
        add_diag(all);
        add_checkpoint(all);
        add_run(all);
        add_runtime(all);
        return all;
    }();
    return keys;
}

const Key* find_key(std::string_view name) {
    for (const Key& key : schema()) {
        if (key.name == name) {
            return &key;
        }
    }
    return nullptr;
}

bool is_section(std::string_view name) {
    return std::ranges::any_of(schema(), [&](const Key& key) {
        return key.name.size() > name.size() && key.name[name.size()] == '.' &&
               key.name.starts_with(name);
    });
}

}  // namespace octavo
