// Matrix products for the kernels of matmul and for those that contain one.
#pragma once

#include "backends/cuda/kernels.h"

namespace octavo::cuda {

// The fastest kernel that takes this product, of operands a and b (and an accumulator like the
// result), as a step of another kernel.
Prepared prepare_matmul(const Matmul&, const Type& a, const Type& b);

}  // namespace octavo::cuda
