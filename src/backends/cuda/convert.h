// Casts between element types.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace octavo::cuda {

// y = cast(x * factor), the product in f32 unless factor is 1.
void convert(const void* x, Dtype from, void* y, Dtype to, std::int64_t n, float factor = 1);
// y = cast(x * scale[0]), the product in f32.
void dequantise(const void* x, Dtype from, const float* scale, void* y, Dtype to, std::int64_t n);
// y = cast(x * k), k = 1 / scale[0] rounded to f32, the product in f32.
void quantise(const void* x, Dtype from, const float* scale, void* y, Dtype to, std::int64_t n);
// The same of codes under a scale: y = cast((x * x_scale[0]) * k), both products in f32.
void requantise(const void* x, Dtype from, const float* x_scale, const float* scale, void* y,
                Dtype to, std::int64_t n);

}  // namespace octavo::cuda
