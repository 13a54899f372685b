#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView& node) {
    return {[range = std::get<RangeScale>(node.op).range](const KernelCall& call) {
        const float amax = *call.in[0].as<float>();
        *call.out[0].as<float>() = amax == 0 ? 1.0f : amax / range;
    }};
}

}  // namespace

void register_range_scale(KernelRegistry& registry) {
    registry.add<RangeScale>({"range_scale", takes_all, prepare});
}

}  // namespace octavo::cpu
