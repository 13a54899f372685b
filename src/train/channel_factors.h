// What makes the SwiGLU channels of a model all have about the same range: the factors that
// Smooth-SwiGLU divides out and multiplies back per channel in training (arXiv 2409.12517), put
// into the weights, so that inference in 8 bits sees a plain SwiGLU without spikes.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/backend.h"

namespace octavo {

// A power of two for each channel, by layer ("model.layers.0.mlp").
using ChannelFactors = std::map<std::string, std::vector<float>>;

struct ChannelRequest {
    std::filesystem::path model;   // a checkpoint or Hugging Face folder of a model with SwiGLU
    std::filesystem::path tokens;  // a token file: what the channels' ranges are measured on
    std::int64_t batches = 16, batch = 8, seq = 256;
};

// The largest factors of any batch.
ChannelFactors measure_channels(const ChannelRequest&, Backend&);

// Whether a tensor of State is what smooth.export_window keeps: training does not need it.
bool is_kept_channels(std::string_view state_name);

// Those that a checkpoint keeps (smooth.export_window): the largest of its last steps, of the
// running window and the one before it, as powers of two. None if it keeps none.
ChannelFactors kept_channels(const std::filesystem::path& checkpoint);

// For weights that are quantised to 8 bits after the fold: no factor of a layer below its largest
// by more than 2^10. The rows of W_up share scales, per block or tensor, and what lies further
// below the largest one falls out of E4M3's normal numbers; a channel with a larger factor than it
// asks for keeps a part of its small range, which costs nothing beside the large ones. Returns how
// many factors were raised.
inline constexpr float kFoldSpread = 0x1p10f;
std::size_t limit_spread(ChannelFactors&);

// Divides the rows of a layer's up_proj.weight (channels, features) by its factors and multiplies
// the columns of its down_proj.weight (rows, channels) by them; other weights stay. The function of
// the model stays, to the bit; an Error names a weight whose significand would lose bits, below the
// smallest normal number.
void fold_channels(const ChannelFactors&, const std::string& weight, std::span<float> values);

}  // namespace octavo
