// Products of many experts at once (mixture of experts) on Hopper's tensor cores, in BF16 and FP8.
// How many rows an expert has is known to the GPU alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "graph/type.h"

namespace octavo::cuda {

// Expert e of E owns the rows offsets[e] up to offsets[e + 1] of `rows`, a multiple of 128 each
// (or none), from offsets[0] = 0 on.
//
//     by_rows:  out (rows, n),  row r = a (rows, k) row r . b[e(r)] (n, k)^T    forward, dgrad
//     by_k:     out (E, m, n),  out[e] = a (m, rows of e) . b (n, rows of e)^T  wgrad
//
// y = (((sum * a_scale) * b_scale) * factor) [+ acc], rounded once. Rows from offsets[E] on, and
// experts without rows, are sums of nothing: 0 [+ acc].
struct GroupedProduct {
    enum class Form { by_rows, by_k };
    Form form = Form::by_rows;
    std::int64_t experts = 0;  // up to 511
    std::int64_t rows = 0;     // of the buffers; what experts own can be less
    std::int64_t m = 0;        // by_k only
    std::int64_t n = 0;
    std::int64_t k = 0;  // by_rows only

    // BF16 both, or codes of which one at most is E5M2.
    Dtype a_type = Dtype::bf16, b_type = Dtype::bf16;
    // Stored with the reduction slowest: a as (rows, m), b as (E, k, n) or (rows, n). BF16 only;
    // a by_k only, and b with it.
    bool a_transposed = false, b_transposed = false;
    // FP8: per tensor for both; or, with sums in f32 and scales laid out as graph/type.h says,
    // block_1x128 along the reduction for a and, by_rows, block_128x128 for b as (E n, k), by_k
    // block_1x128 for b as well.
    Granularity a_scales = Granularity::tensor, b_scales = Granularity::tensor;
    // FP8 per tensor: partial sums stay in the tensor cores' accumulators of about 14 bits, else
    // they are added up in f32 every 128 codes.
    bool fast_accumulation = false;
    Dtype out_type = Dtype::bf16;  // or F32; of acc as well
    float factor = 1;
};

// The memory of a product. It all starts at multiples of 16 bytes, but for offsets.
struct GroupedOperands {
    const void *a = nullptr, *b = nullptr;
    const std::int32_t* offsets = nullptr;               // (E + 1)
    const float *a_scale = nullptr, *b_scale = nullptr;  // FP8 only; null: 1
    const void* acc = nullptr;                           // like out, which it may be, or null
    void* out = nullptr;
};

// Why there is no kernel for it; nullopt: there is one.
std::optional<std::string> why_not(const GroupedProduct&);

// Error where there is no kernel. Nothing waits for the GPU. The same bits in every run; FP32 that
// is added in place has its subnormals flushed.
void grouped_gemm(const GroupedProduct&, const GroupedOperands&, cudaStream_t);

}  // namespace octavo::cuda
