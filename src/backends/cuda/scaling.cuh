// The numerics of quantisers and scales on the device, in the same order of operations as
// backends/cpu/scaling.cpp: codes and scales are equal bit for bit.
#pragma once

#include "backends/cuda/kernels.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {

__device__ inline float next_scale(const ScaleRule& rule, float amax, float old) {
    return scale_of_amax(amax, max_value(rule.to), rule.rounding, rule.margin, old);
}

// NaN counts as infinity: AdvanceScale must see that something was not finite.
__device__ inline float noted_amax(float first, float amax) {
    const float noted = isnan(amax) ? INFINITY : amax;
    return fmaxf(first, noted);
}

// |x| as an integer that orders like it, NaN above infinity.
__device__ inline std::uint32_t magnitude_bits(float x) { return __float_as_uint(x) & 0x7FFFFFFFu; }
// f64 is rounded to f32 first, as its amax is reported.
__device__ inline std::uint32_t magnitude_bits(double x) {
    return magnitude_bits(static_cast<float>(x));
}

// Raises *top to the block's largest; all threads of the block must call it.
__device__ inline void raise_to_block_max(std::uint32_t* top, std::uint32_t x) {
    x = warp_max(x);
    if (threadIdx.x % kWarp == 0 && x > 0) atomicMax(top, x);
}

}  // namespace octavo::cuda
