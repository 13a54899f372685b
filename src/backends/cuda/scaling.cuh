// The numerics of quantisers and scales on the device, in the same order of operations as
// backends/cpu/scaling.cpp: codes and scales are equal bit for bit.
#pragma once

#include "backends/cuda/kernels.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {

__device__ inline float next_scale(const ScaleRule& rule, float amax, float old) {
    return scale_of_amax(amax, max_value(rule.to), rule.rounding, rule.margin, old);
}

// NaN counts as infinity, and one that is there already stays: AdvanceScale must see that something
// was not finite.
__device__ inline float noted_amax(float first, float amax) {
    const float noted = isnan(amax) ? INFINITY : amax;
    return first < noted ? noted : first;
}

// |x| as an integer that orders like it, NaN above infinity.
__device__ inline std::uint32_t magnitude_bits(float x) { return __float_as_uint(x) & 0x7FFFFFFFu; }
// f64 is rounded to f32 first, as its amax is reported.
__device__ inline std::uint32_t magnitude_bits(double x) {
    return magnitude_bits(static_cast<float>(x));
}

// Raises *top to the block's largest magnitude; all threads of the block must call it. Signed, so
// that a negative number counts as less.
__device__ inline void raise_to_block_max(float* top, std::uint32_t magnitude) {
    magnitude = warp_max(magnitude);
    if (threadIdx.x % kWarp != 0 || magnitude == 0) return;
    // Most warps find a larger one there already: reading is cheaper than to queue at one address.
    auto* const bits = reinterpret_cast<int*>(top);
    if (__ldcg(bits) < static_cast<int>(magnitude)) atomicMax(bits, static_cast<int>(magnitude));
}

}  // namespace octavo::cuda
