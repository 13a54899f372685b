// Weights in FP8 with a scale per 128 x 128 block, as exports write them and generation computes
// with them: both ask here, so that one is what the other uses.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>

#include "base/shape.h"

namespace octavo {

inline constexpr std::int64_t kWeightBlock = 128;  // rows, and columns
// Smaller amaxes count as this one: a block of zeros has the scale 2A7B5123.
inline constexpr float kBlockFloor = 1e-10f;

struct NamedShape {
    std::string name;  // "model.layers.0.mlp.up_proj.weight"
    Shape shape;       // (N, K), or (E, N, K) of experts, which share no block
};

// Of the weights of Linear layers, those that `chosen` picks and what other programs join to them
// (q, k and v, or gate and up), which they hold in one form.
std::set<std::string> with_joined(std::span<const NamedShape>,
                                  const std::function<bool(const NamedShape&)>& chosen);
// Whether whole blocks cover it: else it stays in bf16.
bool has_whole_blocks(const Shape&);

}  // namespace octavo
