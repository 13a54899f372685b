// Smooth-SwiGLU's factor of a token (arXiv 2409.12517) where the FFN's channels are spread over
// tensor-parallel ranks. Shared, it follows from the amax of all ranks, so that codes are those of
// one rank that has all channels. A local one needs no exchange; it is right, too, as long as each
// rank multiplies its product by it before products are added up.
#pragma once

#include <span>
#include <vector>

#include "base/scale.h"

namespace octavo {

enum class FactorSync { shared, local };

// Of each rank, from the amax of its channels.
std::vector<float> token_factors(std::span<const float> amax, FactorSync, ScaleRounding);

}  // namespace octavo
