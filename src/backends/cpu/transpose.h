// Transposed copies, for the kernels of transpose and for those that contain one.
#pragma once

#include "runtime/tensor.h"

namespace octavo::cpu {

// y (N, M) = x^T, x (..., N) with M rows; scales are copied, too.
void transpose(const TensorRef& x, const TensorRef& y);

}  // namespace octavo::cpu
