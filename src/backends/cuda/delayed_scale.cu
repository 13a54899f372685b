#include "backends/cuda/scaling.cuh"

namespace octavo::cuda {
namespace {

// Results may lie on their operands: everything is read before anything is written.
__global__ void delayed_scale_kernel(const float* amax, const float* history, int slots,
                                     const std::int32_t* counter, const float* scale,
                                     ScaleRule rule, float* used, float* updated) {
    const float top = *amax, old = *scale;
    const bool just_in_time = *counter < slots;
    for (int i = static_cast<int>(threadIdx.x); i < slots; i += kWarp) {
        updated[i] = i == 0 ? noted_amax(history[0], top) : history[i];
    }
    if (threadIdx.x == 0) *used = just_in_time ? next_scale(rule, top, old) : old;
}

Prepared prepare(const NodeView& node) {
    return {[rule = std::get<DelayedScale>(node.op).rule](const KernelCall& call) {
        const TensorRef& history = call.in[1];
        delayed_scale_kernel<<<1, kWarp, 0, stream()>>>(
            call.in[0].as<float>(), history.as<float>(), static_cast<int>(history.type.shape[0]),
            call.in[2].as<std::int32_t>(), call.in[3].as<float>(), rule, call.out[0].as<float>(),
            call.out[1].as<float>());
        launched("delayed_scale");
    }};
}

}  // namespace

void register_delayed_scale(KernelRegistry& registry) {
    registry.add<DelayedScale>({"delayed_scale", takes_all, prepare});
}

}  // namespace octavo::cuda
