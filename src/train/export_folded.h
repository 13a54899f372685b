// A Hugging Face folder whose SwiGLU channels all have about the same range: what Smooth-SwiGLU
// divides out and multiplies back per channel in training (arXiv 2409.12517) is put into the
// weights, so that inference in 8 bits sees a plain SwiGLU without spikes.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/backend.h"

namespace octavo {

// up (channels, features) /= s, down (rows, channels) *= s, with a factor for each channel. Powers
// of two are exact; the function of the model stays, to the bit.
void fold_channels(std::span<float> up, std::span<float> down, std::span<const float> s);

struct ExportRequest {
    std::filesystem::path model;   // a checkpoint or Hugging Face folder of a model with SwiGLU
    std::filesystem::path tokens;  // a token file: what the channels' ranges are measured on
    std::filesystem::path out;     // a folder; must not exist
    std::int64_t batches = 16, batch = 8, seq = 256;
};

struct FoldedLayer {
    std::string layer;      // "model.layers.0.mlp"
    float least = 0, most;  // of its factors
};

// Writes model.safetensors with the weights in their dtypes, and the other files of the folder but
// those of training. Error where a factor would change a weight's significand: below the smallest
// normal number of its dtype.
std::vector<FoldedLayer> export_folded(const ExportRequest&, Backend&);

}  // namespace octavo
