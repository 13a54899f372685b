#include "backends/cuda/kernels.h"

namespace octavo::cuda {

void register_reshape(KernelRegistry& registry) {
    registry.add<Reshape>({"reshape", takes_all, prepare_view});
}

}  // namespace octavo::cuda
