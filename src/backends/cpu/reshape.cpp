#include "backends/cpu/kernels.h"

namespace octavo::cpu {

void register_reshape(KernelRegistry& registry) {
    registry.add<Reshape>({"reshape", takes_all, prepare_view});
}

}  // namespace octavo::cpu
