// Products of a few rows with a weight, as decoding has them: what they cost is reading the weight.
// A library's kernels are made for tall operands; for these they read at half of what memory gives.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"

namespace octavo::cuda {

inline constexpr std::int64_t kFewRows = 128;

// y (m, n) = x (m, k) w (n, k)^T [+ bias (n)] [+ acc (m, n)], all dense, sums in f32, rounded once.
// E4M3 codes have a scale per 128x128 block of w and per 1x128 block of x, laid out as graph/type.h
// says, and each block's sum is promoted to f32.
struct FewRowsGemm {
    std::int64_t m = 0, n = 0, k = 0;
    Dtype type = Dtype::bf16;  // of x and w: bf16, or e4m3
    const void *x = nullptr, *w = nullptr;
    const float *x_scale = nullptr, *w_scale = nullptr;  // e4m3
    Dtype out = Dtype::bf16;                             // of y, bias and acc: bf16 or f32
    const void *bias = nullptr, *acc = nullptr;          // null: none; acc may be y
    void* y = nullptr;
};

// Why there is no such product here; pointers are not looked at. They are multiples of 16 bytes.
std::optional<std::string> refuse_few_rows(const FewRowsGemm&);

// The order of the sums depends on n, k, and the size of the GPU, not on m.
void few_rows_gemm(const FewRowsGemm&, cudaStream_t);

}  // namespace octavo::cuda
