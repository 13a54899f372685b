#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"

namespace octavo::cpu {
namespace {

void delayed_scale(const KernelCall& call, const ScaleRule& rule) {
    const TensorRef &history = call.in[1], &counter = call.in[2];
    const float amax = *call.in[0].as<float>(), scale = *call.in[3].as<float>();
    *call.out[0].as<float>() =
        just_in_time(history, counter) ? next_scale(rule, amax, scale) : scale;
    note_amax(history, amax, call.out[1]);
}

Prepared prepare(const NodeView& node) {
    return {[rule = std::get<DelayedScale>(node.op).rule](const KernelCall& call) {
        delayed_scale(call, rule);
    }};
}

}  // namespace

void register_delayed_scale(KernelRegistry& registry) {
    registry.add<DelayedScale>({"delayed_scale", takes_all, prepare});
}

}  // namespace octavo::cpu
