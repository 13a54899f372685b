// All settings of a run, as plain data. The meaning, unit and range of each is in schema.cpp, the
// only other place that lists them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace octavo {

struct RunConfig {
    struct Model {
        std::string preset = {};  // a name from model_presets.h that the other values started from
        std::string path =
            {};  // a Hugging Face folder; its config.json then decides all that follows
        std::string family = "llama";
        std::int64_t vocab_size = 320;
        std::int64_t hidden_size = 256;
        std::int64_t layers = 8;
        std::int64_t heads = 4;
        std::int64_t kv_heads = 0;           // 0: as many as heads
        std::int64_t head_dim = 0;           // 0: hidden_size / heads
        std::int64_t intermediate_size = 0;  // 0: the family's usual multiple of hidden_size
        std::int64_t max_positions = 1024;
        double rope_theta = 10000;
        double norm_eps = 1e-5;
        bool tie_embeddings = true;
        std::int64_t num_experts = 0;  // qwen3_moe alone, and what follows
        std::int64_t num_experts_per_tok = 0;
        std::int64_t moe_intermediate_size = 0;
        std::int64_t decoder_sparse_step = 1;
        bool norm_topk_prob = true;
        bool operator==(const Model&) const = default;
    };

    struct Data {
        std::vector<std::string> train, held_out;
        std::vector<double> weights, stages;
        std::string windows = "stream";
        bool document_mask = false;
        std::int64_t end_of_text = -1;
        bool operator==(const Data&) const = default;
    };

    struct Train {
        std::int64_t steps = 1000;
        std::int64_t batch = 8;
        std::int64_t seq = 256;
        std::int64_t grad_accum = 1;
        double lr = 6e-4;
        double min_lr_ratio = 0.1;
        std::string schedule = "cosine";
        std::int64_t warmup_steps = 100;
        double decay_fraction = 0.2;
        double beta1 = 0.9;
        double beta2 = 0.95;
        double eps = 1e-8;
        double weight_decay = 0.1;
        double clip = 1;
        double router_aux_loss_coef = -1;  // -1: what config.json asks for
        double router_z_loss_coef = 0;
        std::int64_t seed = 1;
        bool operator==(const Train&) const = default;
    };

    struct Recipe {
        std::string name = "bf16";
        std::string level = "O0";
        std::string weight_cast = "cached";
        bool fp8_lm_head = false;
        std::vector<std::string> bf16 = {};
        std::int64_t margin = 0;
        std::int64_t history = 16;
        std::string activation_scale = "delayed";
        std::string scale_rounding = "auto";
        std::string block_rule = "recip";
        std::string gradient = "auto";
        std::string grad_rounding = "nearest";
        std::int64_t group = 0;
        std::string global_scale = "auto";
        std::string weight_scale = "auto";
        std::string bound = "adam";
        std::int64_t interval = 500;
        std::int64_t run = 3;
        std::string compute = "auto";
        std::string matmul = "auto";
        std::string rescale = "auto";
        std::string statistic = "l2";
        std::string norm_eps = "exact";
        bool attention_rebalance = true;
        std::string cast = "saturate";
        std::int64_t state_rescale = 0;
        bool operator==(const Recipe&) const = default;
    };

    struct Smooth {
        std::string granularity = "auto";
        std::string rounding = "pow2";
        std::string source = "current";
        std::string channel_update = "micro_batch";
        std::int64_t export_window = 0;
        bool operator==(const Smooth&) const = default;
    };

    struct Optimizer {
        std::string master = "auto";
        std::string gradient = "auto";
        std::string gradient_sum = "f32";
        std::string m = "auto";
        std::string v = "auto";
        std::string v_storage = "v";
        bool v_floor = true;
        std::string moment_rounding = "nearest";
        std::string moment_scale = "exact";
        bool operator==(const Optimizer&) const = default;
    };

    struct Eval {
        std::int64_t every = 100;
        std::int64_t batches = 20;
        bool operator==(const Eval&) const = default;
    };

    struct Diag {
        std::int64_t interval = 100;
        bool operator==(const Diag&) const = default;
    };

    struct Checkpoint {
        std::int64_t every = 500;
        std::int64_t keep_last = 2;
        std::int64_t keep_every = 0;
        std::string resume = "auto";
        bool operator==(const Checkpoint&) const = default;
    };

    struct Run {
        std::string dir;  // empty in a fresh RunConfig; resolved to runs/<name of the run file>
        std::int64_t log_every = 1;
        bool operator==(const Run&) const = default;
    };

    struct Runtime {
        std::string backend = "auto";
        bool deterministic = false;
        bool trace = false;
        std::int64_t threads = 0;
        std::string recompute = "none";
        bool fuse = true;
        double memory_limit_gb = 0;
        bool operator==(const Runtime&) const = default;
    };

    Model model;
    Data data;
    Train train;
    Recipe recipe;
    Smooth smooth;
    Optimizer optimizer;
    Eval eval;
    Diag diag;
    Checkpoint checkpoint;
    Run run;
    Runtime runtime;
    bool operator==(const RunConfig&) const = default;
};

}  // namespace octavo
