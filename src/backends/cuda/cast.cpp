#include "backends/cuda/convert.h"
#include "backends/cuda/kernels.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        const TensorRef &x = call.in[0], &y = call.out[0];
        convert(x.data, x.type.dtype, y.data, y.type.dtype, x.type.shape.elements());
    }};
}

}  // namespace

void register_cast(KernelRegistry& registry) { registry.add<Cast>({"cast", takes_all, prepare}); }

}  // namespace octavo::cuda
