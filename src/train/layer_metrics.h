// What a measured step tells of the model layer by layer, for metrics.jsonl: names end in the
// number of the layer.
//
//     swiglu.cos_p50.<layer>, .cos_p99, .cos_max      of |cos(w_gate, w_up)| over the channels
//     swiglu.norm_gate_max, .norm_up_max, .norm_ratio  of their weights (inspect_swiglu.h)
//     swiglu.amax                       max |h|, h = silu(gate) * up
//     swiglu.smooth_amax                of what Smooth-SwiGLU leaves of h
//     swiglu.sig_min, .sig_max          of the factors that it divides by
//     swiglu.sat_frac, .flush_frac      of the cast of h, or of what is left of it
//     adam.v_flush_frac                 of second moments in 8 bits (step_graphs.h), in the tensor
//                                       of the layer where it is largest
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "train/train_program.h"

namespace octavo {

using NamedNumbers = std::vector<std::pair<std::string, double>>;

// Weights are those in State, all experts of a layer together. What the cast or Smooth-SwiGLU tells
// is there where they are.
NamedNumbers swiglu_metrics(const State&, const Measured&);
NamedNumbers moment_metrics(const std::vector<FlushedMoment>&);

}  // namespace octavo
