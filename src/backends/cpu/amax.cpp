#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        const TensorRef& x = call.in[0];
        *call.out[0].as<float>() = tensor_amax(x) * (x.scale ? *x.scales() : 1.0f);
    }};
}

}  // namespace

void register_amax(KernelRegistry& registry) { registry.add<Amax>({"amax", takes_all, prepare}); }

}  // namespace octavo::cpu
