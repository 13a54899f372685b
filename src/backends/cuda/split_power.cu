#include "backends/cuda/kernels.cuh"
#include "backends/propagation.h"

namespace octavo::cuda {
namespace {

__global__ void split_power_kernel(const float* x, const float* y, float* rest, float* power) {
    const float s = split_power(*x * *y);
    *rest = *y / s;
    *power = s;
}

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        split_power_kernel<<<1, 1, 0, stream()>>>(call.in[0].as<float>(), call.in[1].as<float>(),
                                                  call.out[0].as<float>(), call.out[1].as<float>());
        launched("split_power");
    }};
}

}  // namespace

void register_split_power(KernelRegistry& registry) {
    registry.add<SplitPower>({"split_power", takes_all, prepare});
}

}  // namespace octavo::cuda
