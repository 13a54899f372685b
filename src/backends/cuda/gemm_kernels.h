// The kernels around cuBLASLt's products.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace octavo::cuda {

// {alpha, beta} for a product of codes under these scales (null: 1), in f64 or f32.
void product_factors(const float* a_scale, const float* b_scale, bool accumulate, Dtype compute,
                     void* alpha_beta);

// y[i] = x[0] for n elements.
void repeat(const float* x, float* y, std::int64_t n);

}  // namespace octavo::cuda
