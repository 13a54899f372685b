// Element-wise functions of one or two operands, in compute_t<T>, for their own kernels and for
// quantisers that contain them.
#pragma once

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

struct AddFunction {
    float a_factor = 1, b_factor = 1;

    template <class C>
    __device__ C operator()(C a, C b) const {
        return a * C(a_factor) + b * C(b_factor);
    }
};

struct MulFunction {
    template <class C>
    __device__ C operator()(C a, C b) const {
        return a * b;
    }
};

// Functions that are not linear see x * factor, a power of two.

struct SiluFunction {
    float factor = 1;

    template <class C>
    __device__ C operator()(C x) const {
        return x * sigmoid(x * C(factor));
    }
};

struct SiluGradFunction {
    float factor = 1;

    template <class C>
    __device__ C operator()(C x, C dy) const {
        const C v = x * C(factor), s = sigmoid(v);
        return dy * (s * (C(1) + v * (C(1) - s)));
    }
};

struct SwiGluFunction {
    float factor = 1;

    template <class C>
    __device__ C operator()(C gate, C up) const {
        return gate * sigmoid(gate * C(factor)) * up;
    }
};

// (1 + tanh(u)) / 2 = sigmoid(2u)
struct GeluFunction {
    float factor = 1;

    template <class C>
    __device__ C operator()(C x) const {
        constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
        const C v = x * C(factor);
        return x * sigmoid(v * (k + k3 * v * v));
    }
};

struct GeluGradFunction {
    float factor = 1;

    template <class C>
    __device__ C operator()(C x, C dy) const {
        constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
        const C v = x * C(factor);
        const C s = sigmoid(v * (k + k3 * v * v));
        return dy * (s + v * s * (C(1) - s) * (k + C(3) * k3 * v * v));
    }
};

// Both results of SwiGluGrad.
template <class C>
__device__ inline void swiglu_gradients(C gate, C up, C dy, C factor, C& dgate, C& dup) {
    const C v = gate * factor, s = sigmoid(v);
    dgate = dy * up * (s * (C(1) + v * (C(1) - s)));
    dup = dy * (gate * s);
}

}  // namespace octavo::cuda
