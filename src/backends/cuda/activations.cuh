// Element-wise functions of one or two operands, in compute_t<T>, for their own kernels and for
// quantisers that contain them.
#pragma once

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

struct AddFunction {
    template <class C>
    __device__ C operator()(C a, C b) const {
        return a + b;
    }
};

struct MulFunction {
    template <class C>
    __device__ C operator()(C a, C b) const {
        return a * b;
    }
};

struct SiluFunction {
    template <class C>
    __device__ C operator()(C x) const {
        return x * sigmoid(x);
    }
};

struct SiluGradFunction {
    template <class C>
    __device__ C operator()(C x, C dy) const {
        const C s = sigmoid(x);
        return dy * (s * (C(1) + x * (C(1) - s)));
    }
};

struct SwiGluFunction {
    template <class C>
    __device__ C operator()(C gate, C up) const {
        return gate * sigmoid(gate) * up;
    }
};

// (1 + tanh(u)) / 2 = sigmoid(2u)
struct GeluFunction {
    template <class C>
    __device__ C operator()(C x) const {
        constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
        return x * sigmoid(x * (k + k3 * x * x));
    }
};

struct GeluGradFunction {
    template <class C>
    __device__ C operator()(C x, C dy) const {
        constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
        const C s = sigmoid(x * (k + k3 * x * x));
        return dy * (s + x * s * (C(1) - s) * (k + C(3) * k3 * x * x));
    }
};

// Both results of SwiGluGrad.
template <class C>
__device__ inline void swiglu_gradients(C gate, C up, C dy, C& dgate, C& dup) {
    const C s = sigmoid(gate);
    dgate = dy * up * (s * (C(1) + gate * (C(1) - s)));
    dup = dy * (gate * s);
}

}  // namespace octavo::cuda
