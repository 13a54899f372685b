// The graphs of a training run: what a step is made of, as data.
//
//     micro         forward + backward of one micro-batch, gradients into State
//     micro_next    the same, added to the gradients of the micro-batches before it
//     micro_measured  in a measured step, the last of them, with numbers about every cast
//     update        global norm, clipping, AdamW, working weights and delayed scales
//
// Gradients in e4m3 are quantised when they are written; those of several micro-batches are summed
// in StateFormats::gradient_sum, and quantised when `update` begins.
//
//     moments       in a measured step, before the update: what 8 bits do to second moments
//     turn_windows  every smooth.export_window steps: the largest factors are those of a new window
//     eval          forward, loss only
//     refresh       working weights from the masters, after initialisation or loading (recipe.h)
#pragma once

#include <cstdint>
#include <vector>

#include "models/model.h"
#include "passes/recompute.h"
#include "passes/target.h"
#include "recipes/recipe.h"

namespace octavo {

struct StepOptions {
    Architecture architecture;
    Recipe recipe;
    std::int64_t batch = 1, seq = 1;  // of one micro-batch
    bool accumulates = false;         // a step has several of them
    bool documents = false;           // tokens see their own document only
    AdamW adamw{};                    // weight_decay applies to matrices only
    float clip = 0;                   // 0: no clipping
    // Coefficients of the auxiliary losses of routers, which training alone adds to the loss.
    double router_balance = 0, router_z = 0;
    Recompute recompute = Recompute::none;
    bool fuse = true;
    bool measure = false;  // some steps measure their casts to 8 bits
    Target target{};       // of the backend that will run them
};

// Inputs: ids, targets (batch, seq) i32 and weight [1] f32, with `documents` also starts and
// positions (batch, seq) i32 (DocumentContext). Targets below 0 count for nothing. Gradients and
// loss are left in State: nobody has to wait for a micro-batch. The loss is the language model's
// alone. With `measure`, the outputs of measure_casts and measure_swiglus (recipe.h). Where the
// recipe rounds output gradients at random, also kDrawInput: the number of the micro-batch in the
// run.
Graph micro_graph(const StepOptions&, bool add_to_gradients, bool measure = false);
// The same inputs. Output: loss [1].
Graph eval_graph(const StepOptions&);

// The loss of every row of a batch by itself. Inputs: ids and, for each row, targets.<row>, all
// (batch, seq), and weight [1]. Outputs: loss.<row> [1].
Graph row_losses_graph(const StepOptions&);

// Inputs: schedule [3] f32 = {lr, 1 - beta1^t, 1 - beta2^t}, step [1] i32 = t. Output: norm [1],
// NaN if the loss or an amax of delayed scales is not finite. A norm that is not leaves weights and
// moments as they are. With `measure`, predicted scales start afresh from the amaxes of the new
// weights.
Graph update_graph(const StepOptions&, const Graph& micro, bool measure = false);

// What casts do to the second moments that the update is about to write: an output of CastStats for
// every parameter that keeps them in 8 bits under a scale, by its name, of which `flushed` alone is
// meant; as rounding to nearest without a floor does it. It reads what `update` reads and stores
// nothing. Without outputs where there is no such moment, with propagated scales, and of roots
// whose scales are powers of two.
Graph moments_graph(const StepOptions&);

// Inputs: those of micro_graph. Outputs: logits, loss and, if asked for,
// grad.<parameter> of every parameter, all f32.
Graph inspection_graph(const StepOptions&, bool gradients);

// In which formats a recipe keeps what the optimizer needs of a parameter.
StateFormats formats_of(const Recipe&, const Parameter&);

inline constexpr const char* kLossName = "step/loss";
// With mixtures of experts, of a step's last micro-batch: the auxiliary losses (1) f32, if there
// are any, and how many tokens chose each expert of a layer, (E) i32.
inline constexpr const char* kRouterLossName = "step/router_loss";
inline constexpr std::string_view kExpertCounts = "step/expert_counts.";
std::string gradient_name(std::string_view parameter);  // "grad/<parameter>"

}  // namespace octavo
