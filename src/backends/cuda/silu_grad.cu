#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {

void register_silu_grad(KernelRegistry& registry) {
    registry.add<SiluGrad>({"silu_grad", takes_all, prepare_map<SiluGradFunction, 2>});
}

}  // namespace octavo::cuda
