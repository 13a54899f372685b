// One matrix product by cuBLASLt, its algorithm chosen by timing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "graph/type.h"

namespace octavo::cuda {

// c (m, n) = op(a) op(b) [+ bias (n) for each row] [+ acc], all row-major; bias of c's dtype.
struct GemmDesc {
    std::int64_t m = 0, n = 0, k = 0;
    bool trans_a = false, trans_b = false;
    Dtype a = Dtype::f32, b = Dtype::f32;  // equal, or both FP8
    Dtype c = Dtype::f32;                  // FP8 only of unscaled FP8, saturating, without acc
    bool bias = false;
    bool accumulate = false;
    // FP8: partial sums stay in the tensor cores' accumulators of about 14 bits, 2 to 11 % faster.
    bool fast_accumulation = false;
    // FP8: one scale per tensor for both, per row for both, per 1x128 or 128x128 block (not 128x128
    // for both), laid out as graph/type.h says, or none for both.
    Granularity a_scales = Granularity::tensor, b_scales = Granularity::tensor;
    // The product is multiplied by this number, or (not FP8) by one in device memory.
    float factor = 1;
    bool device_factor = false;
    // Elements from one row to the next, as stored; 0: rows follow each other.
    std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;

    std::int64_t rows_a() const { return trans_a ? k : m; }
    std::int64_t rows_b() const { return trans_b ? n : k; }
    std::int64_t row_a() const { return stride_a ? stride_a : trans_a ? m : k; }
    std::int64_t row_b() const { return stride_b ? stride_b : trans_b ? k : n; }
    std::int64_t row_c() const { return stride_c ? stride_c : n; }
};

// Null where the product has none.
struct GemmOperands {
    const void *a = nullptr, *b = nullptr, *bias = nullptr, *acc = nullptr;
};

// What cuBLASLt multiplies by: the operands' scales (FP8, 16-byte aligned) or {alpha, beta} in
// device memory (device_factor), in the compute type.
struct GemmScales {
    const float *a = nullptr, *b = nullptr;
    const void* alpha_beta = nullptr;
};

class Gemm {
  public:
    // Error if cuBLASLt has no algorithm for it.
    explicit Gemm(const GemmDesc&);
    ~Gemm();
    Gemm(Gemm&&) noexcept;
    Gemm& operator=(Gemm&&) noexcept;

    std::int64_t workspace_bytes() const;
    // acc and c may be the same memory; bias is 16-byte aligned.
    void operator()(const GemmOperands&, void* c, const GemmScales&, std::byte* workspace) const;

    // Whether cuBLASLt has an algorithm for it.
    static bool exists(const GemmDesc&);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// Bit patterns of moderate numbers, for timing: products of zeros run faster than any others.
void fill_for_timing(void* data, Dtype, std::int64_t n);

}  // namespace octavo::cuda
