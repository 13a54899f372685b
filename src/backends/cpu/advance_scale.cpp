#include <cmath>
#include <limits>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"

namespace octavo::cpu {
namespace {

// Results may lie on their operands: slots move from the oldest on, scalars are read first.
void advance_scale(const KernelCall& call, const ScaleRule& rule) {
    const float* history = call.in[0].as<float>();
    float* shifted = call.out[0].as<float>();
    const std::int64_t slots = call.in[0].type.shape[0];
    const std::int32_t counter = *call.in[1].as<std::int32_t>();
    const float old = *call.in[2].as<float>();

    const bool finite = std::isfinite(history[0]);
    const float newest = finite ? history[0] : 0.0f;
    float amax = newest;
    for (std::int64_t i = slots - 1; i >= 1; --i) {
        amax = std::max(amax, history[i]);
        shifted[i] = i == 1 ? newest : history[i - 1];
    }
    shifted[0] = 0.0f;
    const bool full = counter == std::numeric_limits<std::int32_t>::max();
    *call.out[1].as<std::int32_t>() = !finite ? 0 : full ? counter : counter + 1;
    *call.out[2].as<float>() = next_scale(rule, amax, old);
}

Prepared prepare(const NodeView& node) {
    return {[rule = std::get<AdvanceScale>(node.op).rule](const KernelCall& call) {
        advance_scale(call, rule);
    }};
}

}  // namespace

void register_advance_scale(KernelRegistry& registry) {
    registry.add<AdvanceScale>({"advance_scale", takes_all, prepare});
}

}  // namespace octavo::cpu
