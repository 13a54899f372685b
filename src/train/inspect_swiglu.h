// How far the gate and up weights of SwiGLU channels have aligned: the slow cause of the spikes
// that FP8 training meets after long runs (arXiv 2409.12517).
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "train/channel_factors.h"

namespace octavo {

// Of each channel of one layer, w_gate and w_up being its rows of the two weights.
struct ChannelWeights {
    std::string layer;  // "model.layers.0.mlp"
    std::int64_t features = 0;
    std::vector<double> cos, gate_norm, up_norm;  // of a weight of zeros cos is 0
};

// gate, up: (channels, features).
ChannelWeights channel_weights(std::span<const float> gate, std::span<const float> up,
                               std::int64_t features);

// Over the channels of a layer. Independent directions of d features have |cos| of 1 / sqrt(d),
// root mean square.
struct Alignment {
    double cos_p50 = 0, cos_p99 = 0, cos_max = 0;  // of |cos|, by nearest rank
    double gate_norm_max = 0, up_norm_max = 0;
    double norm_ratio = 0;  // median of |w_gate| / |w_up|
};

Alignment alignment(const ChannelWeights&);

// Of every layer of a checkpoint or Hugging Face folder. Error if there is no SwiGLU.
std::vector<ChannelWeights> inspect_swiglu(const std::filesystem::path& model);

std::string to_text(const std::vector<ChannelWeights>&);

// A safetensors file of f32 [channels]: <layer>.cos, .gate_norm and .up_norm, and .factor where
// `factors` (channel_factors.h) has the layer.
void write_channels(const std::filesystem::path& file, const std::vector<ChannelWeights>&,
                    const ChannelFactors& factors);

}  // namespace octavo
