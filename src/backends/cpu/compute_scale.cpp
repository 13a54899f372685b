#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView& node) {
    return {[rule = std::get<ComputeScale>(node.op).rule](const KernelCall& call) {
        const float amax = *call.in[0].as<float>(), old = *call.in[1].as<float>();
        *call.out[0].as<float>() = next_scale(rule, amax, old);
    }};
}

}  // namespace

void register_compute_scale(KernelRegistry& registry) {
    registry.add<ComputeScale>({"compute_scale", takes_all, prepare});
}

}  // namespace octavo::cpu
