#include "backends/cuda/convert.h"
#include "backends/cuda/device.h"
#include "backends/cuda/kernels.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        const TensorRef &x = call.in[0], &y = call.out[0];
        const float* scale = call.in[1].as<float>();
        quantise(x.data, x.type.dtype, scale, y.data, y.type.dtype, x.type.shape.elements());
        copy(scale, y.scale, sizeof(float));
    }};
}

}  // namespace

void register_quantise(KernelRegistry& registry) {
    registry.add<Quantise>({"quantise", takes_all, prepare});
}

}  // namespace octavo::cuda
