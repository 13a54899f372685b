#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct GeluGradFunction {
    template <class C>
    __device__ C operator()(C x, C dy) const {
        constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
        const C s = sigmoid(x * (k + k3 * x * x));
        return dy * (s + x * s * (C(1) - s) * (k + C(3) * k3 * x * x));
    }
};

}  // namespace

void register_gelu_grad(KernelRegistry& registry) {
    registry.add<GeluGrad>({"gelu_grad", takes_all, prepare_map<GeluGradFunction, 2>});
}

}  // namespace octavo::cuda
