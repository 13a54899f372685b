#pragma once

#include "runtime/tensor.h"

namespace octavo::cpu {

// y = cast(code * scale) element by element, under any granularity; y has x's shape. With micro
// groups the code is first multiplied by its group's power of two, which is exact.
void dequantise(const TensorRef& x, const TensorRef& y);

}  // namespace octavo::cpu
