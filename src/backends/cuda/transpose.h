// Transposed copies of codes.
#pragma once

#include "runtime/kernel.h"

namespace octavo::cuda {

// A matrix with more rows than a grid has room for.
Refusal reject_tall(const Type& x);

// y (N, M) = x^T, x (..., N) with M rows; a scale is copied, too.
void transpose(const TensorRef& x, const TensorRef& y);

}  // namespace octavo::cuda
