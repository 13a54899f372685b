// A training step as calls: the graphs of step_graphs.h compiled into one Program.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "report/scales.h"
#include "runtime/program.h"
#include "train/state_rescale.h"
#include "train/step_graphs.h"

namespace octavo {

// The first value of a run that holds a NaN or an infinity.
struct NonFinite {
    std::string tensor;  // "%83 (matmul of model.layers.2.mlp.up_proj)"
    std::string op;
    std::int64_t count = 0;  // elements that are not finite
};

// Of a micro-batch whose tokens see their own document only (StepOptions::documents); else empty.
struct DocumentSpans {
    std::span<const std::int32_t> starts = {}, positions = {};
};

// What a SwiGLU makes in a micro-batch.
struct SwiGluRange {
    std::string label;                // "model.layers.0.mlp"
    float amax = 0;                   // of h, before anything is divided out
    std::vector<float> factors = {};  // of Smooth-SwiGLU: of tokens or channels
};

struct Measured {
    std::vector<TensorCast> casts;  // in the order of the model
    std::vector<SwiGluRange> swiglus;
};

struct FlushedMoment {
    std::string parameter;
    float share = 0;  // of the second moments above 0, those that round to 0
};

class TrainProgram {
  public:
    // Compiles and plans; memory comes with `allocate`.
    TrainProgram(Backend&, const StepOptions&, bool accumulates);

    const StepOptions& options() const { return options_; }
    Program& program() { return program_; }
    const Program& program() const { return program_; }
    State& state() { return program_.state(); }

    void allocate(std::int64_t limit) {
        limit_ = limit;
        program_.allocate(limit);
    }
    // Seeded initial weights, zero moments, unit scales.
    void initialise(std::uint64_t seed);
    // To be called whenever master weights were written from outside.
    void refresh() { program_.run("refresh"); }
    // Scales that parameters were brought to (recipe.state_rescale), which are not those of their
    // initialisation; plans are compiled anew if these are others than before. After `allocate` and
    // before State is loaded that has them.
    Exponents exponents() const;
    void set_exponents(const Exponents&);

    // ids and targets (batch, seq); targets below 0 count for nothing. `first` overwrites gradients
    // and loss, later micro-batches add to them. `number` is that of the micro-batch in the run, by
    // which output gradients are rounded at random. Returns as soon as the work is handed over.
    void micro(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
               float weight, bool first, const DocumentSpans& documents = {},
               std::int64_t number = 0);
    // The same for the last micro-batch of a step, to the same bits, and what its casts to 8 bits
    // and its SwiGLUs did. Waits for the work.
    Measured measured_micro(std::span<const std::int32_t> ids,
                            std::span<const std::int32_t> targets, float weight,
                            const DocumentSpans& documents = {}, std::int64_t number = 0);
    // Whether there is anything to measure: StepOptions asks for it, and the recipe casts or the
    // model has SwiGLUs.
    bool measures() const { return program_.has("micro_measured"); }
    bool measures_casts() const { return measures_casts_; }
    // After the last micro-batch of a step and before its update: of every parameter whose second
    // moment moments_graph measures. Waits for the work.
    std::vector<FlushedMoment> flushed_moments();
    // Of the micro-batches since the first: weight * sum of the cross entropy over the targets.
    float loss() const;
    // The same for a batch, without gradients.
    float evaluate(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                   float weight, const DocumentSpans& documents = {});
    // Of the last micro-batch of a model with experts: how often the busiest expert of a layer was
    // chosen over how often an average one was, in the layer where that is largest.
    std::optional<double> expert_load() const;
    // And the auxiliary losses of its routers times its share of the step, where there are any.
    std::optional<double> router_loss() const;
    // Optimizer step number `t` >= 1. Returns the gradient norm before clipping. If that, the loss
    // or an amax that a delayed scale goes by is not finite, it is infinite or NaN and weights and
    // moments were left alone. With recipe.state_rescale, weights and moments get new scales after
    // each so many steps.
    float update(double lr, std::int64_t t);

    // Runs the last micro-batch again, looking at every result.
    std::optional<NonFinite> find_non_finite();

  private:
    void compile();
    void rescale_states();
    void run(std::string_view plan, std::span<const std::int32_t> ids,
             std::span<const std::int32_t> targets, float weight, const DocumentSpans& documents);

    // Before a plan of a micro-batch runs.
    void write_draw(std::int64_t number);

    StepOptions options_;
    Program program_;
    std::int64_t limit_ = 0;  // of memory
    bool draws_ = false;      // some cast rounds at random
    std::string last_micro_ = "micro";
    bool measures_casts_ = false;
};

// Bytes of State per weight of the Linear layers, by role.
std::map<std::string, double> linear_state_bytes(const TrainProgram&);

// The memory table of the plan, and below it what a Linear weight takes of it, and what this
// process already takes on the host.
std::string memory_text(const TrainProgram&);

// Training floating-point operations per token: 6 per weight of the linear layers (of experts: of
// those that a token chooses) and the head, and attention at half for causality (6 * layers * heads
// * head_dim * seq); recompute and the input embedding are not counted.
double flops_per_token(const Architecture&, std::int64_t seq);

}  // namespace octavo
