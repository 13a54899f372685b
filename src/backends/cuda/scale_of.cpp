#include "backends/cuda/device.h"
#include "backends/cuda/kernels.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        expect(cudaMemcpyAsync(call.out[0].data, call.in[0].scale, sizeof(float),
                               cudaMemcpyDeviceToDevice, stream()),
               "cudaMemcpyAsync");
    }};
}

}  // namespace

void register_scale_of(KernelRegistry& registry) {
    registry.add<ScaleOf>({"scale_of", takes_all, prepare});
}

}  // namespace octavo::cuda
