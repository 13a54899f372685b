#include "backends/cpu/kernels.h"
#include "backends/decomposed.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView& node) { return prepare_decomposed(kernel_registry(), node); }

}  // namespace

void register_rms_norm_quantise(KernelRegistry& registry) {
    registry.add<RmsNormQuantise>({"decomposed", takes_all, prepare});
}

}  // namespace octavo::cpu
