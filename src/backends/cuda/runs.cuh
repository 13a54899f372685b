// Codes under a scale for each run of 128 elements of a row, by packets: sixteen neighbouring
// lanes have a run.
#pragma once

#include "backends/cuda/kernels.cuh"
#include "base/block_scale.h"

namespace octavo::cuda {

inline constexpr int kRunLanes = kScaleBlock / kPacket;

template <class To>
struct RunCodes {
    std::uint8_t* codes;
    float* scales;
    std::int64_t columns, pitch;  // pitch: rows that have scales, padding included
    BlockScale rule;

    RunCodes(const TensorRef& y, const BlockQuantise& op)
        : codes(y.as<std::uint8_t>()),
          scales(y.scales()),
          columns(y.type.shape.last()),
          pitch(scale_layout(y.type).pitch),
          rule{max_value(op.to), op.floor, op.rounding, op.rule} {}

    // Padding: no codes, a scale of zero.
    __device__ void clear(std::int64_t row, std::int64_t run) const {
        scales[run * pitch + row] = 0;
    }

    // The packet at a column, called by all lanes of its run.
    __device__ void write(std::int64_t row, std::int64_t column, float (&v)[kPacket]) const {
        std::uint32_t top = 0;
#pragma unroll
        for (int i = 0; i < kPacket; ++i) top = max(top, __float_as_uint(v[i]) & 0x7FFFFFFF);
        const unsigned together = threadIdx.x % kWarp < kRunLanes ? 0x0000FFFFu : 0xFFFF0000u;
#pragma unroll
        for (int step = kRunLanes / 2; step > 0; step /= 2) {
            top = max(top, __shfl_xor_sync(together, top, step));
        }
        const auto [scale, inv_scale] = rule(__uint_as_float(top));
        if (column % kScaleBlock == 0) scales[column / kScaleBlock * pitch + row] = scale;
#pragma unroll
        for (int i = 0; i < kPacket; ++i) v[i] *= inv_scale;
        *reinterpret_cast<uint2*>(codes + row * columns + column) = encode_packet<To>(v);
    }
};

}  // namespace octavo::cuda
