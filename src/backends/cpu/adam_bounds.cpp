#include "backends/cpu/kernels.h"
#include "backends/propagation.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView& node) {
    const auto op = std::get<AdamBounds>(node.op);
    const float averaged = averaged_size(op.beta1);
    return {[op, averaged](const KernelCall& call) {
        const float* old = call.in[0].as<float>();
        float* bounds = call.out[0].as<float>();
        const float scale = *call.in[1].as<float>(), factor = *call.in[2].as<float>();
        MomentBounds next{old[0], old[1]};
        if (is_finite(factor)) {
            next = moment_bounds(next, op, averaged, scale * factor);
        }
        bounds[0] = next.m;
        bounds[1] = next.v;
    }};
}

}  // namespace

void register_adam_bounds(KernelRegistry& registry) {
    registry.add<AdamBounds>({"adam_bounds", takes_all, prepare});
}

}  // namespace octavo::cpu
