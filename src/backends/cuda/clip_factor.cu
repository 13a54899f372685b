#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

constexpr std::size_t kMany = 128;  // factors of one launch

struct Factors {
    const float* scale[kMany];
    float* product[kMany];
};

__device__ float clip_factor(float norm, float max_norm) {
    if (!isfinite(norm)) return NAN;
    return max_norm > 0 ? fminf(1.0f, max_norm / (norm + 1e-6f)) : 1.0f;
}

__global__ void clip_factor_kernel(const float* norm, float max_norm, float* factor,
                                   const __grid_constant__ Factors scaled, std::size_t count) {
    const float y = clip_factor(*norm, max_norm);
    if (threadIdx.x == 0) *factor = y;
    if (threadIdx.x < count) *scaled.product[threadIdx.x] = y * *scaled.scale[threadIdx.x];
}

Prepared prepare(const NodeView& node) {
    return {[max_norm = std::get<ClipFactor>(node.op).max_norm](const KernelCall& call) {
        std::size_t first = 1;
        do {
            Factors scaled{};
            const std::size_t count = std::min(kMany, call.in.size() - first);
            for (std::size_t i = 0; i < count; ++i) {
                scaled.scale[i] = call.in[first + i].as<float>();
                scaled.product[i] = call.out[first + i].as<float>();
            }
            clip_factor_kernel<<<1, kMany, 0, stream()>>>(call.in[0].as<float>(), max_norm,
                                                          call.out[0].as<float>(), scaled, count);
            launched("clip_factor");
            first += count;
        } while (first < call.in.size());
    }};
}

}  // namespace

void register_clip_factor(KernelRegistry& registry) {
    registry.add<ClipFactor>({"clip_factor", takes_all, prepare});
}

}  // namespace octavo::cuda
