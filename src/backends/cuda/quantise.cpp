#include "backends/cuda/convert.h"
#include "backends/cuda/device.h"
#include "backends/cuda/kernels.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        const TensorRef &x = call.in[0], &y = call.out[0];
        const float* scale = call.in[1].as<float>();
        const std::int64_t n = x.type.shape.elements();
        if (x.scale) {
            requantise(x.data, x.type.dtype, x.scales(), scale, y.data, y.type.dtype, n);
        } else {
            quantise(x.data, x.type.dtype, scale, y.data, y.type.dtype, n);
        }
        copy(scale, y.scale, sizeof(float));
    }};
}

}  // namespace

void register_quantise(KernelRegistry& registry) {
    registry.add<Quantise>({"quantise", takes_all, prepare});
}

}  // namespace octavo::cuda
