// What Octavo's own products on Hopper's tensor cores share: the ring of stages between the thread
// that brings operands and the warpgroups that multiply, and the way of sums from registers into
// boxes that bulk copies take to memory.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "backends/cuda/ptx.cuh"

namespace octavo::cuda {

// Where a role stands in the ring.
template <int kStages>
struct Ring {
    int stage = 0;
    std::uint32_t parity = 0;
    __device__ void next() {
        if (++stage == kStages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

__device__ inline void wait(std::uint32_t barrier, std::uint32_t parity) {
    while (!ptx::mbarrier_try_wait_parity(barrier, parity)) {
    }
}

inline constexpr int kBoxBytes = 64 * 128;  // of staged results: 64 rows of 128 bytes, swizzled

// Two neighbours of row r in a box, where a lane of wgmma.cuh has them: at columns {0, 1} + 8 c +
// 2 (lane % 4).
template <class T>
__device__ void stage_pair(std::uint32_t box, int r, int c, float left, float right) {
    const int q = static_cast<int>(threadIdx.x) % 4;
    if constexpr (sizeof(T) == 4) {
        ptx::st_shared(box + r * 128 + (((2 * c + q / 2) ^ (r & 7)) << 4) + q % 2 * 8,
                       __float_as_uint(left), __float_as_uint(right));
    } else {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(left, right);
        ptx::st_shared(box + r * 128 + ((c ^ (r & 7)) << 4) + q * 4,
                       *reinterpret_cast<const std::uint32_t*>(&pair));
    }
}

__device__ inline float2 widen(float2 x) { return x; }
__device__ inline float2 widen(__nv_bfloat162 x) { return __bfloat1622float2(x); }

}  // namespace octavo::cuda
