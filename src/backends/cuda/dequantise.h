#pragma once

#include "runtime/tensor.h"

namespace octavo::cuda {

// y = cast(code * scale) element by element, under any granularity; y has x's shape.
void dequantise(const TensorRef& x, const TensorRef& y);

}  // namespace octavo::cuda
