#include "backends/cpu/kernels.h"

namespace octavo::cpu {

void register_codes(KernelRegistry& registry) {
    registry.add<Codes>({"codes", takes_all, prepare_view});
}

}  // namespace octavo::cpu
