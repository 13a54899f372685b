#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {

void register_gelu_grad(KernelRegistry& registry) {
    registry.add<GeluGrad>({"gelu_grad", takes_all, prepare_map<GeluGradFunction, 2>});
}

}  // namespace octavo::cuda
