#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {

void register_add(KernelRegistry& registry) {
    registry.add<Add>({"add", takes_all, prepare_map<AddFunction, 2>});
}

}  // namespace octavo::cuda
