// Transposed copies of codes.
#pragma once

#include "runtime/tensor.h"

namespace octavo::cuda {

// y (N, M) = x^T, x (..., N) with M rows; a scale is copied, too.
void transpose(const TensorRef& x, const TensorRef& y);

}  // namespace octavo::cuda
