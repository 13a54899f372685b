#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/cpu/transpose.h"

namespace octavo::cpu {
namespace {

void delayed_quantise(const KernelCall& call, const ScaleRule& rule) {
    const TensorRef &x = call.in[0], &history = call.in[1], &counter = call.in[2];
    const TensorRef& y = call.out[0];
    float scale = *call.in[3].as<float>(), amax = 0;
    if (just_in_time(history, counter)) {
        amax = tensor_amax(x);
        scale = next_scale(rule, amax, scale);
        quantise_tensor(x, scale, y);
    } else {
        amax = quantise_tensor_amax(x, scale, y);
    }
    note_amax(history, amax, call.out[1]);
    *call.out[2].as<float>() = scale;
    if (call.out.size() == 4) transpose(y, call.out[3]);
}

Prepared prepare(const NodeView& node) {
    return {[rule = std::get<DelayedQuantise>(node.op).rule](const KernelCall& call) {
        delayed_quantise(call, rule);
    }};
}

}  // namespace

void register_delayed_quantise(KernelRegistry& registry) {
    registry.add<DelayedQuantise>({"delayed_quantise", takes_all, prepare});
}

}  // namespace octavo::cpu
