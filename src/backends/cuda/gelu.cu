#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct GeluFunction {
    template <class C>
    __device__ C operator()(C x) const {
        // (1 + tanh(u)) / 2 = sigmoid(2u)
        constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
        return x * sigmoid(x * (k + k3 * x * x));
    }
};

}  // namespace

void register_gelu(KernelRegistry& registry) {
    registry.add<Gelu>({"gelu", takes_all, prepare_map<GeluFunction, 1>});
}

}  // namespace octavo::cuda
