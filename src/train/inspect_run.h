// One batch through a model on disk, results to a file: the way to compare with other programs.
#pragma once

#include <filesystem>

#include "recipes/recipe.h"
#include "runtime/backend.h"

namespace octavo {

struct InspectionRequest {
    std::filesystem::path model;  // config.json and safetensors
    std::filesystem::path batch;  // safetensors with `input_ids` (B, T), i32 or i64
    std::filesystem::path out;
    Recipe recipe;
    bool gradients = false;
    bool fuse = true;
};

// Writes logits (B, T, V), loss [] (mean next-token cross entropy over B * (T - 1) targets) and, if
// asked for, grad.<parameter>, all f32. Throws Error for ids outside the vocabulary and the like.
void run_inspection(const InspectionRequest&, Backend&);

}  // namespace octavo
