// A recipe says in which format each kind of tensor is kept, and where its scale comes from.
//
// Recipes act through the graph alone: `apply` rewrites a step that was built in f32, and nothing
// else in Octavo asks which recipe it is.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/scaled.h"

namespace octavo {

enum class Provider : std::uint8_t {
    current,    // amax of this very tensor, now; or no scale at all
    delayed,    // maximum over a window of past amaxes
    recorded,   // amax noted when the tensor was last written
    predicted,  // a bound on how far the optimizer can have moved it since its amax was measured
};

struct Format {
    Dtype dtype = Dtype::e4m3;
    Granularity granularity = Granularity::tensor;
    Provider provider = Provider::current;
    ScaleRounding rounding = ScaleRounding::pow2;
    int margin = 0;           // of one scale per tensor
    int group = 0;            // elements of a micro group
    bool global = false;      // micro groups under one scale for the tensor instead of the row's
    float floor = 0x1p-100f;  // amaxes of rows and blocks below it count as it
    BlockRule block_rule = BlockRule::recip;  // of scales per row or block

    bool operator==(const Format&) const = default;
};

Scaling scaling_of(const Format&);

// How `predicted` scales of weights move.
struct Prediction {
    float bound = 1;              // of |AdamW's update| / learning rate
    std::int64_t interval = 500;  // steps from one measured amax to the next
    bool operator==(const Prediction&) const = default;
};
// The tight bound for AdamW with these betas, by Cauchy-Schwarz over every history of gradients:
//     (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2))
// MOSS takes 1, which holds for b1 = b2 only. Error unless b1^2 < b2.
float adam_bound(double beta1, double beta2);

// What a moment is kept in: f32 and bf16 plain, others under one scale per tensor, or e4m3 under
// expansions of groups (base/expansion.h).
struct MomentFormat {
    Dtype dtype = Dtype::f32;
    bool expanded = false;

    constexpr MomentFormat(Dtype d, bool expands = false) : dtype(d), expanded(expands) {}
    bool operator==(const MomentFormat&) const = default;
};
inline constexpr MomentFormat kExpandedMoment{Dtype::e4m3, true};
std::string_view name(const MomentFormat&);  // the dtype's, or "expanded"

// The dtypes of what the optimizer keeps of a weight: f32 and bf16 plain, the others under one
// scale per tensor. bf16 is rounded stochastically, so that small steps are not lost.
struct StateFormats {
    Dtype master = Dtype::f32;    // f32, bf16, f16 or, for study, e4m3
    Dtype gradient = Dtype::f32;  // f32, bf16 or e4m3; propagated: also f16, e5m2
    MomentFormat m = Dtype::f32, v = Dtype::f32;
    // What micro-batches are summed in before e4m3; others are summed as they are.
    Dtype gradient_sum = Dtype::f32;

    bool operator==(const StateFormats&) const = default;
};
Type state_type(Dtype, const Shape&);
Type state_type(const MomentFormat&, const Shape&);

// Smooth-SwiGLU (arXiv 2409.12517): before it is quantised, the result of a SwiGLU is divided by
// the largest |up| of each token (rows) or channel (columns), which the product that reads it gets
// back: in its result, or in the rows of its weight, which is quantised anew in each micro-batch.
// Or channels are divided by the maxima of the step before, and the weight that takes them lies in
// State as `work.folded/<weight>`.
struct Smooth {
    Axis axis = Axis::row;
    ScaleRounding rounding = ScaleRounding::pow2;  // of what is divided out
    Format hidden{};                               // of the quotient, in place of `activation`
    bool step_before = false;                      // of columns
    // Columns: steps whose largest factors are kept for export (smooth_window_name); 0: none.
    std::int64_t export_window = 0;
    bool in_state() const { return step_before && axis == Axis::column; }
    bool operator==(const Smooth&) const = default;
};

// Scales that follow from shapes (graph/scaled.h): data is cast as it is, to formats of granularity
// `none`, and State holds it beside its scale.
struct Propagation {
    ScaleOptions scales{};
    // Gradients are measured where a norm of a layer hands them to the residual stream, and weight
    // gradients before they bound the moments.
    bool rescale_norms = true, rescale_weight_gradients = false;
    Statistic statistic = Statistic::l2;
    // Steps from one measurement of weights and moments to the next; 0: none. The exponents that
    // it found for parameters stand in place of those of their initialisation.
    std::int64_t state_rescale = 0;
    std::map<std::string, int, std::less<>> exponents{};
    int exponent_of(std::string_view parameter, int initial) const;
};

struct Recipe {
    std::string name;
    // Activations, their gradients, embeddings and working weights outside the Linear layers.
    Dtype compute = Dtype::f32;
    // Operands of the Linear layers' three products; none: they stay in `compute`.
    std::optional<Format> activation{}, weight{}, output_grad{};
    bool quantise_head = false;
    std::vector<std::string> in_compute{};  // Linear layers that stay there (base/layer_name.h)
    // Seed for casts of output gradients that round up or down at random; none: to nearest.
    std::optional<std::uint64_t> gradient_noise{};
    int window = 16;  // optimizer steps that a delayed scale looks back over
    Prediction prediction{};
    std::optional<Smooth> smooth{};
    StateFormats states{};  // of the weights of Linear layers
    // Quantised weights lie in State as the optimizer left them; else only their scale does, and
    // forward and backward each cast the masters again, to the same codes.
    bool cache_weights = true;
    // Generation's: layers whose weights 128 x 128 blocks do not cover (base/weight_blocks.h) stay
    // in `compute`, as exports have them. Training quantises partial blocks, too.
    bool whole_blocks = false;
    std::optional<Propagation> propagation{};

    // Whether the products of the Linear layer with this label take those formats.
    bool quantises(std::string_view layer) const;
    // Of embeddings and the head, which 8 bits and sums in 16 are too coarse for: one token's row
    // is touched rarely.
    StateFormats table_states() const;
    // How gradients at rest are quantised.
    ScaleRule gradient_rule() const;
};

// The published runs of scalify, 0 to 4: its products, states and what is measured. 0 is the
// baseline, everything in f32 without scales.
void set_scalify_run(Recipe&, int run);
// The published levels of fp8-lm: "O0", its products alone, to "O3".
StateFormats fp8_lm_states(std::string_view level);

// The recipes by name. Error listing them otherwise.
Recipe recipe_named(std::string_view name);
std::vector<std::string> recipe_names();

// The first rewriting, of the forward part before it is differentiated: Smooth-SwiGLU. `values`
// become what they are in the result.
Graph rewrite_forward(const Recipe&, Graph forward, Values& values);

// Rewrites a step (forward, or forward and backward) into the recipe's formats. Weights are read
// from `work.<dtype>/<name>` where the recipe keeps a working copy, or cast by `work.scale/<name>`.
// `training` lets delayed scales take note of what they see; evaluation and generation use them as
// they are. It also lets output gradients be rounded at random (Recipe::gradient_noise), for which
// the graph gets an input more, kDrawInput [1] i32: the number of the draw.
inline constexpr const char* kDrawInput = "draw";
Graph apply(const Recipe&, const Graph& step, bool training);

// A working copy of a weight, or the scale to make one, as the graphs that `apply` made read it.
struct WorkingWeight {
    std::string state;   // "work.e4m3/model.layers.0.mlp.up_proj.weight"
    std::string weight;  // "model.layers.0.mlp.up_proj.weight"
    Type type;
    Type master;
    std::optional<int> exponent = {};  // propagated: the copy holds values over 2^exponent
};
std::vector<WorkingWeight> working_weights(const Recipe&, const Graph& applied);

// When working copies are written.
struct Refresh {
    enum class Kind : std::uint8_t {
        first,      // there is no previous scale to keep
        measured,   // predicted scales are measured afresh
        predicted,  // they move on with the optimizer
    } kind = Kind::first;
    Value schedule{}, factor{};  // predicted: as AdamW read them
};
// Emits the cast from a master weight's value to its working copy and the Stores.
void refresh_working_weight(Builder&, const Recipe&, const WorkingWeight&, Value master,
                            const Refresh&);
// What a quantised working copy is cast from: the master, or with fine scales the copy that a
// 16-bit reader of the weight would see.
Value cast_source(Builder&, const Recipe&, const WorkingWeight&, Value master);
// Whether some working copies have predicted scales.
bool predicts_scales(const Recipe&);
// All working copies that `applied` reads, from their masters, for the first time. No inputs and no
// outputs.
Graph refresh_graph(const Recipe&, const Graph& applied);

// The same step, which also measures every cast to 8 bits (base/cast_stats.h): an output
// of CastStats for each, in the order of the model and by the name of the tensor. Tensors are named
// after the Linear layer that read them first:
//     model.layers.0.mlp.up_proj.x, .dy     what it multiplies, and the gradient of its result
//     ...x_t, ...dy_t                       their transposes, where those have scales of their own
//     ...weight, ...grad                    its weight, and the weight's gradient at rest
// Not seen: the output gradient of a head in FP8, whose codes exist for a few rows at a time.
Graph measure_casts(const Recipe&, const Graph& applied);

// The same step, which also tells what its SwiGLUs make, in the order of the model. Outputs for
// each, by its label ("model.layers.0.mlp"): the amax (1) of h, with nothing divided out, and of
// Smooth-SwiGLU the factors that were, of rows or channels.
inline constexpr std::string_view kSwiGluAmax = "swiglu.amax/", kSwiGluFactors = "swiglu.factors/";
Graph measure_swiglus(const Graph& applied);

// The state of the delayed scales in a graph, one per quantised tensor.
struct DelayedState {
    std::string slot;  // "model.layers.0.mlp.up_proj.x"
    ScaleRule rule;
};
std::vector<DelayedState> delayed_states(const Graph& applied);
// Its window of amaxes, the newest first: of the step that runs.
Value load_history(Builder&, const Recipe&, const DelayedState&);
// Emits the once-per-step move of a delayed scale's window and the Stores.
void advance_delayed_state(Builder&, const Recipe&, const DelayedState&);

// The names of their State tensors: history [window] f32, counter [1] i32, scale [1] f32. All start
// at zero but the scale, which starts at 1.
std::string scale_history_name(std::string_view slot);
std::string scale_counter_name(std::string_view slot);
std::string scale_value_name(std::string_view slot);
// The predicted amax of a weight, [1] f32.
std::string scale_bound_name(std::string_view weight);
// By the weight that takes them: the factors of channels, and the largest of the running step's
// micro-batches so far, [ffn] f32.
std::string smooth_factor_name(std::string_view weight);
std::string smooth_seen_name(std::string_view weight);
// By the layer whose channels they are of ("model.layers.0.mlp"): the largest factors of the window
// of steps that runs, and of the one before it, [ffn] f32. Zeros at first.
std::string smooth_window_name(std::string_view layer);
std::string smooth_before_name(std::string_view layer);
// Emits the end of a window for every layer of `applied` that has one, and the Stores.
void turn_windows(Builder&, const Graph& applied);

// The parameter that a State tensor belongs to: what follows its role, or its whole name.
std::string_view parameter_of(std::string_view state);
// Propagated scales: of a gradient, by its own name "grad/...", [1] f32, and the bounds of moments,
// [2] f32.
std::string gradient_scale_name(std::string_view gradient);
std::string moment_bounds_name(std::string_view weight);

}  // namespace octavo
