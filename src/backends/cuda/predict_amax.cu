#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

__global__ void predict_amax_kernel(const float* p, const float* schedule, const float* factor,
                                    float bound, float* next) {
    // Two roundings, as on the CPU.
    *next = isfinite(*factor) ? __fadd_rn(*p, __fmul_rn(bound, schedule[0])) : *p;
}

Prepared prepare(const NodeView& node) {
    return {[bound = std::get<PredictAmax>(node.op).bound](const KernelCall& call) {
        predict_amax_kernel<<<1, 1, 0, stream()>>>(call.in[0].as<float>(), call.in[1].as<float>(),
                                                   call.in[2].as<float>(), bound,
                                                   call.out[0].as<float>());
        launched("predict_amax");
    }};
}

}  // namespace

void register_predict_amax(KernelRegistry& registry) {
    registry.add<PredictAmax>({"predict_amax", takes_all, prepare});
}

}  // namespace octavo::cuda
