#include "backends/cpu/kernels.h"

namespace octavo::cpu {

void register_sample(KernelRegistry&) {}

}  // namespace octavo::cpu
