#include "backends/cuda/scaling.cuh"

namespace octavo::cuda {
namespace {

// By a warp. Results may lie on their operands: slots move from the oldest on, a warp's all at
// once; scalars and slot 0 are read first.
__global__ void advance_scale_kernel(const float* history, int slots, const std::int32_t* counter,
                                     const float* scale, ScaleRule rule, float* shifted,
                                     std::int32_t* next_counter, float* next) {
    const std::int32_t count = *counter;
    const float old = *scale, noted = history[0];
    const bool finite = isfinite(noted);
    const float newest = finite ? noted : 0.0f;
    float amax = newest;
    const auto lane = static_cast<int>(threadIdx.x);
    for (int i = (slots - 1) / kWarp * kWarp + lane; i >= 0; i -= kWarp) {
        const bool older = i >= 1 && i < slots;
        if (older) amax = fmaxf(amax, history[i]);
        const float before = i >= 2 && older ? history[i - 1] : newest;
        __syncwarp();
        if (older) shifted[i] = before;
    }
    amax = warp_max(amax);
    if (lane != 0) return;
    shifted[0] = 0.0f;
    const bool full = count == std::numeric_limits<std::int32_t>::max();
    *next_counter = !finite ? 0 : full ? count : count + 1;
    *next = next_scale(rule, amax, old);
}

Prepared prepare(const NodeView& node) {
    return {[rule = std::get<AdvanceScale>(node.op).rule](const KernelCall& call) {
        advance_scale_kernel<<<1, kWarp, 0, stream()>>>(
            call.in[0].as<float>(), static_cast<int>(call.in[0].type.shape[0]),
            call.in[1].as<std::int32_t>(), call.in[2].as<float>(), rule, call.out[0].as<float>(),
            call.out[1].as<std::int32_t>(), call.out[2].as<float>());
        launched("advance_scale");
    }};
}

}  // namespace

void register_advance_scale(KernelRegistry& registry) {
    registry.add<AdvanceScale>({"advance_scale", takes_all, prepare});
}

}  // namespace octavo::cuda
