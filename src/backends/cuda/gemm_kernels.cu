#include "backends/cuda/gemm_kernels.h"

#include "backends/cuda/gemm.h"
#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

template <class C>
__global__ void product_factors_kernel(const float* a_scale, const float* b_scale, bool accumulate,
                                       C* alpha_beta) {
    alpha_beta[0] = C((a_scale ? *a_scale : 1.0f) * (b_scale ? *b_scale : 1.0f));
    alpha_beta[1] = C(accumulate ? 1 : 0);
}

__global__ void repeat_kernel(const float* x, float* y, std::int64_t n) {
    const std::int64_t i = std::int64_t{blockIdx.x} * kBlock + threadIdx.x;
    if (i < n) y[i] = *x;
}

// Random signs and significands, magnitudes around one half.
template <class Bits>
__global__ void fill_kernel(Bits* data, std::int64_t n, Bits keep, Bits exponent) {
    const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= n) return;
    std::uint64_t r = static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15ull;
    r = (r ^ (r >> 30)) * 0xBF58476D1CE4E5B9ull;
    r ^= r >> 27;
    data[i] = static_cast<Bits>((static_cast<Bits>(r) & keep) | exponent);
}

template <class Bits>
void fill(void* data, std::int64_t n, Bits keep, Bits exponent) {
    fill_kernel<<<static_cast<unsigned>(ceil_div(n, kBlock)), kBlock, 0, stream()>>>(
        static_cast<Bits*>(data), n, keep, exponent);
    launched("fill");
}

}  // namespace

void product_factors(const float* a_scale, const float* b_scale, bool accumulate, Dtype compute,
                     void* alpha_beta) {
    if (compute == Dtype::f64) {
        product_factors_kernel<<<1, 1, 0, stream()>>>(a_scale, b_scale, accumulate,
                                                      static_cast<double*>(alpha_beta));
    } else {
        product_factors_kernel<<<1, 1, 0, stream()>>>(a_scale, b_scale, accumulate,
                                                      static_cast<float*>(alpha_beta));
    }
    launched("product_factors");
}

void repeat(const float* x, float* y, std::int64_t n) {
    repeat_kernel<<<static_cast<unsigned>(ceil_div(n, kBlock)), kBlock, 0, stream()>>>(x, y, n);
    launched("repeat");
}

void fill_for_timing(void* data, Dtype dtype, std::int64_t n) {
    if (n == 0) return;
    switch (dtype) {
        case Dtype::f64:
            return fill<std::uint64_t>(data, n, 0x800FFFFFFFFFFFFFull, 0x3FE0000000000000ull);
        case Dtype::f32:
            return fill<std::uint32_t>(data, n, 0x807FFFFFu, 0x3F000000u);
        case Dtype::bf16:
            return fill<std::uint16_t>(data, n, 0x807F, 0x3F00);
        case Dtype::f16:
            return fill<std::uint16_t>(data, n, 0x83FF, 0x3800);
        case Dtype::e4m3:
            return fill<std::uint8_t>(data, n, 0x87, 0x30);
        default:
            return fill<std::uint8_t>(data, n, 0x83, 0x38);
    }
}

}  // namespace octavo::cuda
