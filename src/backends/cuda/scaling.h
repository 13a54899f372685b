// Launchers that the kernels of quantisers share.
#pragma once

#include "runtime/tensor.h"

namespace octavo::cuda {

// amax[0] = max |x|: 0 for no elements, NaN before infinity before numbers.
void tensor_amax(const TensorRef& x, float* amax);

}  // namespace octavo::cuda
