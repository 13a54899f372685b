#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {

void register_gelu(KernelRegistry& registry) {
    registry.add<Gelu>({"gelu", takes_all, prepare_map<GeluFunction, 1>});
}

}  // namespace octavo::cuda
