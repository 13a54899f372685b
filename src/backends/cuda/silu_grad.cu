#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct SiluGradFunction {
    template <class C>
    __device__ C operator()(C x, C dy) const {
        const C s = sigmoid(x);
        return dy * (s * (C(1) + x * (C(1) - s)));
    }
};

}  // namespace

void register_silu_grad(KernelRegistry& registry) {
    registry.add<SiluGrad>({"silu_grad", takes_all, prepare_map<SiluGradFunction, 2>});
}

}  // namespace octavo::cuda
