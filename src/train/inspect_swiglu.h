// How far the gate and up weights of SwiGLU channels have aligned: the slow cause of the spikes
// that FP8 training meets after long runs (arXiv 2409.12517).
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace octavo {

// Of the channels of one layer, w_gate and w_up being their rows of the two weights. Independent
// directions of d features have |cos| of 1 / sqrt(d), root mean square.
struct Alignment {
    std::string layer;  // "model.layers.0.mlp"
    std::int64_t features = 0;
    double cos_p50 = 0, cos_p99 = 0, cos_max = 0;  // of |cos(w_gate, w_up)|, by nearest rank
    double gate_norm_max = 0, up_norm_max = 0;
    double norm_ratio = 0;  // median of |w_gate| / |w_up|
};

// gate, up: (channels, features). A weight of zeros is aligned with nothing.
Alignment alignment(std::span<const float> gate, std::span<const float> up, std::int64_t features);

// Of every layer of a checkpoint or Hugging Face folder. Error if there is no SwiGLU.
std::vector<Alignment> inspect_swiglu(const std::filesystem::path& model);

std::string to_text(const std::vector<Alignment>&);

}  // namespace octavo
