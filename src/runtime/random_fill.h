// Random values for measurements.
#pragma once

#include "runtime/backend.h"

namespace octavo {

// Floats uniform in [low, low + 1), codes under scale 1; integers in [0, below).
void fill_random(Backend&, const TensorRef&, std::uint64_t seed, std::int64_t below = 1,
                 float low = -0.5f);

}  // namespace octavo
