#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

__global__ void clip_factor_kernel(const float* norm, float max_norm, float* factor) {
    const float x = *norm;
    if (!isfinite(x)) {
        *factor = NAN;
    } else {
        *factor = max_norm > 0 ? fminf(1.0f, max_norm / (x + 1e-6f)) : 1.0f;
    }
}

Prepared prepare(const NodeView& node) {
    return {[max_norm = std::get<ClipFactor>(node.op).max_norm](const KernelCall& call) {
        clip_factor_kernel<<<1, 1, 0, stream()>>>(call.in[0].as<float>(), max_norm,
                                                  call.out[0].as<float>());
        launched("clip_factor");
    }};
}

}  // namespace

void register_clip_factor(KernelRegistry& registry) {
    registry.add<ClipFactor>({"clip_factor", takes_all, prepare});
}

}  // namespace octavo::cuda
