#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

__global__ void range_scale_kernel(const float* amax, float range, float* scale) {
    *scale = *amax == 0 ? 1.0f : *amax / range;
}

Prepared prepare(const NodeView& node) {
    return {[range = std::get<RangeScale>(node.op).range](const KernelCall& call) {
        range_scale_kernel<<<1, 1, 0, stream()>>>(call.in[0].as<float>(), range,
                                                  call.out[0].as<float>());
        launched("range_scale");
    }};
}

}  // namespace

void register_range_scale(KernelRegistry& registry) {
    registry.add<RangeScale>({"range_scale", takes_all, prepare});
}

}  // namespace octavo::cuda
