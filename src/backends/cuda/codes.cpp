#include "backends/cuda/kernels.h"

namespace octavo::cuda {

void register_codes(KernelRegistry& registry) {
    registry.add<Codes>({"codes", takes_all, prepare_view});
}

}  // namespace octavo::cuda
