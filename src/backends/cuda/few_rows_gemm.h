// Products of a few rows with a weight in E4M3, as decoding has them: what they cost is reading the
// weight. cuBLASLt's kernels are made for tall operands and need 14 us where N is 1024 or 4096.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"

namespace octavo::cuda {

inline constexpr std::int64_t kFewRows = 64;

// y (m, n) = x (m, k) w (n, k)^T [+ bias (n)] [+ acc (m, n)] of E4M3 codes with a scale per 128x128
// block of w and per 1x128 block of x, all laid out as graph/type.h says. Each block's sum is
// promoted to f32, the result is rounded once.
struct FewRowsGemm {
    std::int64_t m = 0, n = 0, k = 0;
    const void *x = nullptr, *w = nullptr;
    const float *x_scale = nullptr, *w_scale = nullptr;
    Dtype out = Dtype::bf16;                     // of y, bias and acc: bf16 or f32
    const void *bias = nullptr, *acc = nullptr;  // null: none; acc may be y
    void* y = nullptr;
};

// Why there is no such product here, or cuBLASLt's is as fast; pointers are not looked at. They are
// multiples of 16 bytes.
std::optional<std::string> refuse_few_rows(const FewRowsGemm&);

// The order of the sums depends on n, k and the size of the GPU, not on m.
void few_rows_gemm(const FewRowsGemm&, cudaStream_t);

}  // namespace octavo::cuda
