#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        quantise_tensor(call.in[0], *call.in[1].as<float>(), call.out[0]);
    }};
}

}  // namespace

void register_quantise(KernelRegistry& registry) {
    registry.add<Quantise>({"quantise", takes_all, prepare});
}

}  // namespace octavo::cpu
