#include "backends/cuda/convert.h"

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

enum class Factor { none, constant, times, over };

template <class From, class To, Factor F>
struct Convert {
    const From* x;
    To* y;
    const float* factor;
    float constant;

    template <int N>
    __device__ void run(std::int64_t i) const {
        compute_t<From> v[N];
        load<N>(x + i, v);
        if constexpr (F == Factor::none) {
            store<N>(y + i, v);
        } else {
            const float k = F == Factor::constant ? constant
                            : F == Factor::times  ? *factor
                                                  : __frcp_rn(*factor);
            float scaled[N];
#pragma unroll
            for (int e = 0; e < N; ++e) scaled[e] = static_cast<float>(v[e]) * k;
            store<N>(y + i, scaled);
        }
    }
};

template <Factor F>
void convert_with(const void* x, Dtype from, void* y, Dtype to, const float* factor, std::int64_t n,
                  float constant = 1) {
    dispatch_float(from, [&]<class From>(std::type_identity<From>) {
        dispatch_float(to, [&]<class To>(std::type_identity<To>) {
            for_elements("convert", n,
                         Convert<From, To, F>{static_cast<const From*>(x), static_cast<To*>(y),
                                              factor, constant});
        });
    });
}

template <class From, class To>
struct Requantise {
    const From* x;
    To* y;
    const float *x_scale, *scale;

    template <int N>
    __device__ void run(std::int64_t i) const {
        const float s = *x_scale, k = __frcp_rn(*scale);
        float v[N];
        load<N>(x + i, v);
#pragma unroll
        for (int e = 0; e < N; ++e) v[e] = v[e] * s * k;
        store<N>(y + i, v);
    }
};

// f(element type) for the formats that take a scale.
template <class F>
void dispatch_scaled(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::f16:
            return f(std::type_identity<f16>{});
        case Dtype::e4m3:
            return f(std::type_identity<e4m3>{});
        case Dtype::e5m2:
            return f(std::type_identity<e5m2>{});
        default:
            fail("quantise: expected codes of f16, e4m3 or e5m2, got {}", name(dtype));
    }
}

}  // namespace

void convert(const void* x, Dtype from, void* y, Dtype to, std::int64_t n, float factor) {
    if (factor == 1) {
        convert_with<Factor::none>(x, from, y, to, nullptr, n);
    } else {
        convert_with<Factor::constant>(x, from, y, to, nullptr, n, factor);
    }
}

void dequantise(const void* x, Dtype from, const float* scale, void* y, Dtype to, std::int64_t n) {
    convert_with<Factor::times>(x, from, y, to, scale, n);
}

void quantise(const void* x, Dtype from, const float* scale, void* y, Dtype to, std::int64_t n) {
    convert_with<Factor::over>(x, from, y, to, scale, n);
}

void requantise(const void* x, Dtype from, const float* x_scale, const float* scale, void* y,
                Dtype to, std::int64_t n) {
    dispatch_scaled(from, [&]<class From>(std::type_identity<From>) {
        dispatch_scaled(to, [&]<class To>(std::type_identity<To>) {
            for_elements("quantise", n,
                         Requantise<From, To>{static_cast<const From*>(x), static_cast<To*>(y),
                                              x_scale, scale});
        });
    });
}

}  // namespace octavo::cuda
