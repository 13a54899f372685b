// Products of two-level microscaled FP8 operands (MOSS, arXiv 2511.05811) on Hopper's tensor cores.
// The CPU defines the semantics; only the sums within a group differ.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/dtype.h"

namespace octavo::cuda {

// out (m, n) = y [+ acc], rounded once. Over the groups of the reduction axis, in order, in FP32:
//
//     sum = fma(f, P, sum)        P = a's codes . b's codes within the group
//                                 f = 2^(a's byte + b's byte - 254), or 0 if that is below 2^-126
//     y   = (sum * a_scale[row]) * b_scale[column]
//
// Of P the tensor cores keep about 14 bits, hence a relative error of 1e-4 at group 32 and 2e-4 at
// 128. A weight has one scale and no bytes: those of b then count as 127.
struct MossGemm {
    std::int64_t m = 0, n = 0, k = 0;  // k a multiple of 16
    int group = 32;                    // 32, 64 or 128 elements of k
    Dtype a_type = Dtype::e4m3;        // or E5M2; b is E4M3

    const void* a = nullptr;  // (m, k) codes
    const void* b = nullptr;  // (n, k) codes
    // E8M0 of an operand with R rows: (ceil(k / 128), R rounded up to 128, 128 / group), padded
    // with 127. Null where b is a weight.
    const std::uint8_t* a_groups = nullptr;
    const std::uint8_t* b_groups = nullptr;
    const float* a_scale = nullptr;  // (m)
    const float* b_scale = nullptr;  // (n), or one for a weight

    Dtype out_type = Dtype::bf16;  // or F32; of acc as well
    const void* acc = nullptr;     // (m, n), which may be out, or null
    void* out = nullptr;           // (m, n)
};

// Error if there is no kernel for it. Codes and bytes have to start at multiples of 16 bytes; a
// pitch of out that is one as well is fast.
void moss_gemm(const MossGemm&, cudaStream_t);

}  // namespace octavo::cuda
