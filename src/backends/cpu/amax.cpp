#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) { *call.out[0].as<float>() = tensor_amax(call.in[0]); }};
}

}  // namespace

void register_amax(KernelRegistry& registry) { registry.add<Amax>({"amax", takes_all, prepare}); }

}  // namespace octavo::cpu
