// Shared by the kernels of rope.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/op.h"

namespace octavo {

// Radians per position of each of the `half` pairs of a head, in double, scaling included.
std::vector<double> rope_frequencies(const Rope& op, std::int64_t half);

}  // namespace octavo
