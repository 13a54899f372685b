// How fast the backend multiplies matrices: the yardstick behind "share of peak".
#pragma once

#include "runtime/backend.h"

namespace octavo {

struct GemmRate {
    double flops_per_s = 0;
    std::string kernel;
};

// Median over repeated products (M, K) x (N, K)^T of random operands, for about `seconds`.
GemmRate measure_gemm_rate(Backend&, Dtype, std::int64_t m, std::int64_t n, std::int64_t k,
                           double seconds = 0.3);

// Of a square product.
inline GemmRate measure_gemm_rate(Backend& backend, Dtype dtype, std::int64_t n) {
    return measure_gemm_rate(backend, dtype, n, n, n);
}

}  // namespace octavo
