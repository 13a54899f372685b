// Generation for many texts at a time over a cache of keys and values in blocks (vLLM's design;
// Kwon et al., arXiv:2309.06180), with weights and cache in BF16 or FP8 (FP8-RL, arXiv:2601.18150).
//
// A text depends on its prompt, options and counters alone: which texts run beside it, how its
// prompt is cut, whether it was preempted or shares blocks with others, only changes roundings
// where a backend's products depend on their shape, and nothing where they do not (the reference
// kernels of the CPU). Except under recipes with one scale for all activations of a product
// (fp8-lm, say): the rows of a step share it.
#pragma once

#include <memory>
#include <unordered_map>

#include "engine/engine_graphs.h"
#include "engine/scheduler.h"
#include "engine/text_engine.h"
#include "engine/weight_writer.h"

namespace octavo {

// Where the scales of a cache in FP8 come from.
enum class KvCalibration : std::uint8_t {
    engine,  // the first forward after new weights (vLLM, verl#4435)
    given,   // set_kv_scales, from a trainer (NeMo-RL#1212)
    none,    // 1
};

struct EngineOptions {
    std::int64_t context = 0;  // tokens of one text, prompt included; 0: all the model's positions
    std::int64_t max_seqs = 256;
    std::int64_t max_batched_tokens = 8192;  // of a step
    std::int64_t block = 16;
    // Of the cache. 0: `memory_fraction` of what the rest leaves, but not more than max_seqs texts
    // of `context` tokens can use.
    std::int64_t kv_pool_bytes = 0;
    double memory_fraction = 0.9;
    bool prefix_cache = true;
    bool fp8_cache = false;
    bool fp8_attention = false;  // products of codes; fp8_cache goes with it
    KvCalibration calibration = KvCalibration::engine;
    // `none` is refused without it for models without QK-norm, whose keys may go beyond 448.
    bool allow_unit_kv_scale = false;
    CacheContext::Ranges ranges{};
};

class Engine final : public TextEngine {
  public:
    // Takes all its memory. It has no weights yet.
    Engine(Backend&, const Architecture&, const Recipe&, EngineOptions);

    // New weights: no text may be running or waiting. All tensors keep their addresses, and no
    // memory is taken. If the source or a weight fails, or later a step, the engine takes no texts
    // until another call succeeds.
    void load(const WeightSource&);
    std::int64_t weight_version() const { return version_; }
    // Calibration `given`: (layers, 3) of q, k and v, for the present weights; as `load`, between
    // texts.
    void set_kv_scales(std::span<const float> scales);
    std::vector<float> kv_scales() const;  // the same, as they are

    std::int64_t context() const override { return options_.context; }
    std::int64_t vocabulary() const override { return architecture_.vocab_size; }
    std::int64_t max_logprobs() const override { return 20; }
    bool scores_prompts() const override { return true; }
    std::int64_t running() const override { return scheduler_.running(); }

    std::uint64_t submit(TextRequest) override;
    void cancel(std::uint64_t id) override;
    std::vector<TokenEvent> step() override;

    const EngineOptions& options() const { return options_; }
    const Scheduler& scheduler() const { return scheduler_; }
    Program& program() { return program_; }
    std::int64_t token_bytes() const;  // of the keys and values of one token
    // The plans that so many rows take: texts that get a token each; tokens of prompts; rows whose
    // logits are wanted.
    std::string decode_plan(std::int64_t rows) const;
    std::string prompt_plan(std::int64_t rows) const;
    std::string head_plan(std::int64_t rows) const;

  private:
    struct Text {
        TextRequest request;      // without its prompt: the scheduler has all tokens
        std::int64_t prompt;      // tokens of it
        std::int64_t scored = 0;  // of them, and reported
    };
    // A row of the head: what follows the token at `row` of the body.
    struct Wanted {
        std::uint64_t id;
        std::int64_t row;
        std::int64_t position;  // of the token that is drawn or scored
    };
    using Chunks = std::vector<Scheduler::Chunk>;

    void compile(Program&, const CacheForm&, bool largest_only) const;
    CacheForm cache_form(std::int64_t blocks) const;
    std::int64_t pool_blocks();
    std::int64_t most_rows() const;
    void check_idle(std::string_view what) const;

    void run_body(const std::string& plan, const Chunks&, std::vector<TokenEvent>&);
    void run_head(std::span<const Wanted>, std::vector<TokenEvent>&);
    void want_rows(const Scheduler::Chunk&, std::int64_t first_row, std::vector<Wanted>&,
                   std::vector<TokenEvent>&);
    bool wants_logits(const Wanted&) const;
    TokenEvent finish_token(Text&, const Wanted&, std::int32_t token, float logprob,
                            std::span<const float> logits);
    void end(std::uint64_t id);

    Architecture architecture_;
    Recipe recipe_;
    EngineOptions options_;
    std::vector<std::int64_t> decode_rows_, prompt_rows_, head_rows_;  // of the plans, ascending
    Program program_;
    std::unique_ptr<WeightWriter> writer_;
    Scheduler scheduler_;
    std::unordered_map<std::uint64_t, Text> texts_;
    std::uint64_t ids_ = 0;
    std::int64_t version_ = 0;
    bool valid_ = false;   // weights and cache are as they should be
    bool scaled_ = false;  // keys and values have the scales that they were promised
    bool calibrate_ = false;
};

}  // namespace octavo
