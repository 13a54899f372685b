// oneDNN 2.6 as the kernels of this folder use it: products of row-major matrices in memory and
// scratch that the caller owns. Nobody else includes its headers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/dtype.h"

namespace octavo::cpu {

// C = scale * op(A) op(B), plus C with `accumulate`; products are summed in f32.
//     op(A) (M, K), op(B) (K, N), C (M, N), all dense; a transposed operand is stored as (K, M) or
//     (N, K)
struct GemmDesc {
    std::int64_t m = 0, n = 0, k = 0;
    bool trans_a = false, trans_b = false;
    Dtype in = Dtype::f32;   // of A and B: f32 or bf16
    Dtype out = Dtype::f32;  // of C: f32 or bf16
    bool scaled = false;     // else the scale is 1
    bool accumulate = false;
};

// What oneDNN would run, e.g. "brg:avx512_core_bf16". Empty if it has nothing, or nothing but
// reference loops, for this product on this processor.
std::string gemm_implementation(const GemmDesc&);

// A product whose kernel is chosen and compiled. Copies share state: one call at a time.
class Gemm {
  public:
    // Throws Error where gemm_implementation is empty.
    explicit Gemm(const GemmDesc&);

    std::int64_t scratch_bytes() const;
    void operator()(const void* a, const void* b, void* c, float scale, std::byte* scratch) const;

  private:
    struct State;
    std::shared_ptr<State> state_;
};

// C = alpha * op(A) op(B) + beta * C in f32, rows lda, ldb and ldc elements apart. Inside
// parallel_for it runs on the calling thread alone, so many small products can run side by side.
void sgemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
           const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc);

// Whether the processor multiplies bf16 itself (AVX512_BF16 or AMX), and what it is called.
bool has_bf16_products();
std::string instruction_set();

}  // namespace octavo::cpu
