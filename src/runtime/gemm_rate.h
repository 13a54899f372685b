// How fast the backend multiplies matrices, and how exactly: the yardstick behind "share of peak".
#pragma once

#include "runtime/backend.h"

namespace octavo {

// (M, K) x (N, K)^T [+ acc], codes under scales of 1.
struct GemmCase {
    Dtype a, b, out;
    MatmulKind kind = MatmulKind::fprop;  // FP8 products of kind fprop may accumulate fast
    bool accumulate = false;
    Scaling a_scaling = kPerTensor, b_scaling = kPerTensor;  // of FP8 operands
};

struct GemmRate {
    double flops_per_s = 0;
    std::string kernel;
    // Root mean square of the errors of sampled elements, against sums in f64, over that of the
    // elements; 0 where nothing was sampled.
    double error = 0;
};

// Median over repeated products of random operands, for about `seconds`.
GemmRate measure_gemm(Backend&, const GemmCase&, std::int64_t m, std::int64_t n, std::int64_t k,
                      double seconds, int samples);

// Of a square product in one dtype (FP8: into bf16).
GemmRate measure_gemm_rate(Backend&, Dtype, std::int64_t n);

}  // namespace octavo
