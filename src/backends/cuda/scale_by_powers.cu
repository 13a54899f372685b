#include "backends/cuda/kernels.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

constexpr std::size_t kMany = 64;  // scales of one launch

struct Scales {
    float* y[kMany];
    float factor[kMany];
};

__global__ void scale_by_powers_kernel(const float* x, const __grid_constant__ Scales scales,
                                       std::size_t count) {
    if (threadIdx.x < count) *scales.y[threadIdx.x] = *x * scales.factor[threadIdx.x];
}

Prepared prepare(const NodeView& node) {
    return {[exponents = std::get<ScaleByPowers>(node.op).exponents](const KernelCall& call) {
        for (std::size_t first = 0; first < exponents.size(); first += kMany) {
            Scales scales{};
            const std::size_t count = std::min(kMany, exponents.size() - first);
            for (std::size_t i = 0; i < count; ++i) {
                scales.y[i] = call.out[first + i].as<float>();
                scales.factor[i] = power_of_two(exponents[first + i]);
            }
            scale_by_powers_kernel<<<1, kMany, 0, stream()>>>(call.in[0].as<float>(), scales,
                                                              count);
            launched("scale_by_powers");
        }
    }};
}

}  // namespace

void register_scale_by_powers(KernelRegistry& registry) {
    registry.add<ScaleByPowers>({"scale_by_powers", takes_all, prepare});
}

}  // namespace octavo::cuda
