// What the kernels of paged attention on tensor cores share: where rows and keys lie, and codes as
// bf16. The score of a key is in units of log2(e), so that e^x is a 2^x.
#pragma once

#include "backends/cuda/kernels.cuh"
#include "backends/cuda/mma.cuh"
#include "backends/cuda/paged_attention.h"

namespace octavo::cuda {

inline constexpr int kBlockTokens = 16;
inline constexpr float kLog2E = 1.44269504f;
inline constexpr float kNoScore = -1e30f;  // a maximum of nothing that can be subtracted

template <class P>  // of the pools: bf16 or e4m3
struct PagedOperands {
    const bf16* q;
    const P *k, *v;
    const std::int32_t *positions, *sequences, *tables;
    const float *k_scale, *v_scale;  // of codes
    const float* q_scale;            // of products in FP8
    bf16* o;
    int rows, heads, groups, table;
    float scale;

    explicit PagedOperands(const KernelCall& call, float softmax_scale)
        : q(call.in[0].as<bf16>()),
          k(call.in[1].as<P>()),
          v(call.in[2].as<P>()),
          positions(call.in[3].as<std::int32_t>()),
          sequences(call.in[4].as<std::int32_t>()),
          tables(call.in[5].as<std::int32_t>()),
          k_scale(call.in.size() >= 8 ? call.in[6].as<float>() : nullptr),
          v_scale(call.in.size() >= 8 ? call.in[7].as<float>() : nullptr),
          q_scale(call.in.size() == 9 ? call.in[8].as<float>() : nullptr),
          o(call.out[0].as<bf16>()),
          rows(static_cast<int>(call.in[3].type.shape.elements())),
          heads(static_cast<int>(call.in[0].type.shape[2])),
          groups(static_cast<int>(call.in[1].type.shape[1])),
          table(static_cast<int>(call.in[5].type.shape[1])),
          scale(softmax_scale * kLog2E) {}

    // Keys that a row sees.
    __device__ int visible(int row) const {
        const std::int64_t n = std::int64_t{positions[row]} + 1;
        const std::int64_t most = std::int64_t{table} * kBlockTokens;
        return static_cast<int>(n < 0 ? 0 : n < most ? n : most);
    }
    __device__ const std::int32_t* table_of(int row) const {
        return tables + std::int64_t{sequences[row]} * table;
    }
    // Where the first token of a block begins in a pool, for a key head of d elements.
    __device__ std::int64_t block_at(int block, int group, int d) const {
        return (std::int64_t{block} * kBlockTokens * groups + group) * d;
    }
};

__device__ inline std::uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// The codes of two elements, in the lower half.
__device__ inline std::uint32_t encode_pair(float low, float high) {
    return __nv_cvt_float2_to_fp8x2({low, high}, __NV_SATFINITE, __NV_E4M3);
}
// The two codes in the lower half, as f16 has them, which is exact.
__device__ inline std::uint32_t decode_f16(std::uint32_t codes) {
    const __half2_raw halves =
        __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(codes & 0xFFFF), __NV_E4M3);
    return halves.x | std::uint32_t{halves.y} << 16;
}
// As bf16 has them, which is exact, too.
__device__ inline std::uint32_t decode_bf16(std::uint32_t codes) {
    const std::uint32_t halves = decode_f16(codes);
    const float2 x = __half22float2(*reinterpret_cast<const __half2*>(&halves));
    return pack(x.x, x.y);
}

}  // namespace octavo::cuda
