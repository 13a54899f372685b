#include "backends/cuda/scaling.cuh"

namespace octavo::cuda {
namespace {

__global__ void compute_scale_kernel(const float* amax, const float* old, ScaleRule rule,
                                     float* scale) {
    *scale = next_scale(rule, *amax, *old);
}

Prepared prepare(const NodeView& node) {
    return {[rule = std::get<ComputeScale>(node.op).rule](const KernelCall& call) {
        compute_scale_kernel<<<1, 1, 0, stream()>>>(call.in[0].as<float>(), call.in[1].as<float>(),
                                                    rule, call.out[0].as<float>());
        launched("compute_scale");
    }};
}

}  // namespace

void register_compute_scale(KernelRegistry& registry) {
    registry.add<ComputeScale>({"compute_scale", takes_all, prepare});
}

}  // namespace octavo::cuda
