// Weights in FP8 with a scale per 128 x 128 block, as exports write them and generation computes
// with them: both ask here, so that one is what the other uses.
#pragma once

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

// Of the weights of Linear layers, those that stay in bf16: whole blocks do not cover them, or not
// what they are joined to (q, k and v, or gate and up), which other programs hold in one form.
std::set<std::string> without_whole_blocks(std::span<const NamedShape>);

}  // namespace octavo
