#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {

void register_silu(KernelRegistry& registry) {
    registry.add<Silu>({"silu", takes_all, prepare_map<SiluFunction, 1>});
}

}  // namespace octavo::cuda
