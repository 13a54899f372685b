// Statistics of tensors (backends/propagation.h), by kernels that read or write them.
#pragma once

#include "backends/cuda/kernels.cuh"
#include "backends/propagation.h"

namespace octavo::cuda {

static_assert(kStatisticPacket == kPacket);

template <Statistic kStatistic>
__device__ inline double packet_statistic(const float (&x)[kPacket]) {
    float packet = 0;
#pragma unroll
    for (const float v : x) packet = with_element(kStatistic, packet, v);
    return packet;
}

// Of all threads of the block, which all have to call it; the result is thread 0's. The order is
// fixed.
template <Statistic kStatistic>
__device__ inline double block_joined(double x) {
    __shared__ double warps[kWarp];
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
    const auto warp_joined = [](double y) {
#pragma unroll
        for (int half = kWarp / 2; half > 0; half /= 2) {
            y = joined(kStatistic, y, __shfl_down_sync(0xFFFFFFFF, y, half));
        }
        return y;
    };
    x = warp_joined(x);
    if (lane == 0) warps[warp] = x;
    __syncthreads();
    return warp_joined(lane < static_cast<int>(blockDim.x) / kWarp ? warps[lane] : 0.0);
}

}  // namespace octavo::cuda
