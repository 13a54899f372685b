// How fast the backend multiplies matrices, and how exactly: the yardstick behind "share of peak".
#pragma once

#include "runtime/program.h"

namespace octavo {

// (M, K) x (N, K)^T [+ acc], codes under scales of 1.
struct GemmCase {
    Dtype a, b, out;
    MatmulKind kind = MatmulKind::fprop;  // FP8 products of kind fprop may accumulate fast
    bool accumulate = false;
    Scaling a_scaling = kPerTensor, b_scaling = kPerTensor;  // of FP8 operands
};

// Repeated products of random operands; sums are added to in place, as in training.
class GemmMeasurement {
  public:
    GemmMeasurement(Backend&, const GemmCase&, std::int64_t m, std::int64_t n, std::int64_t k);

    // Root mean square of the errors of sampled elements of one product, against sums in f64, over
    // that of the elements. Before rates are measured: those make sums large.
    double sampled_error(int samples);
    // Median over `seconds` of products; short ones are waited for in batches.
    double flops_per_s(double seconds = 0.3);
    std::string kernel();

  private:
    Plan& plan() { return program_.plan("gemm"); }
    TensorRef result();
    double batch_seconds(int runs);

    Backend& backend_;
    std::int64_t m_, n_, k_;
    bool accumulates_;
    Program program_;
};

// The product of one dtype by itself (FP8: into bf16), and FLOP/s of a square one.
GemmCase plain_product(Dtype);
double measure_gemm_rate(Backend&, Dtype, std::int64_t n);

}  // namespace octavo
