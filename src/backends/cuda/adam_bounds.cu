#include "backends/cuda/kernels.cuh"
#include "backends/propagation.h"

namespace octavo::cuda {
namespace {

__global__ void adam_bounds_kernel(const float* old, const float* scale, const float* factor,
                                   AdamBounds op, float averaged, float* bounds) {
    MomentBounds next{old[0], old[1]};
    if (is_finite(*factor)) next = moment_bounds(next, op, averaged, *scale * *factor);
    bounds[0] = next.m;
    bounds[1] = next.v;
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<AdamBounds>(node.op);
    const float averaged = averaged_size(op.beta1);
    return {[op, averaged](const KernelCall& call) {
        adam_bounds_kernel<<<1, 1, 0, stream()>>>(call.in[0].as<float>(), call.in[1].as<float>(),
                                                  call.in[2].as<float>(), op, averaged,
                                                  call.out[0].as<float>());
        launched("adam_bounds");
    }};
}

}  // namespace

void register_adam_bounds(KernelRegistry& registry) {
    registry.add<AdamBounds>({"adam_bounds", takes_all, prepare});
}

}  // namespace octavo::cuda
