// The end of measuring a tensor.
#pragma once

#include <cstdint>

#include "graph/op.h"

namespace octavo::cuda {

// The size of n elements under `scale`, from parts of their statistic (backends/propagation.h).
void find_size(const DynamicRescale&, const double* parts, std::int64_t count, std::int64_t n,
               const float* scale, float* size);

}  // namespace octavo::cuda
