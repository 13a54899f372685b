#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct ReluGradFunction {
    template <class C>
    __device__ C operator()(C y, C dy) const {
        return y > C(0) ? dy : C(0);
    }
};

Prepared prepare(const NodeView& node) { return prepare_map<2>(node, ReluGradFunction{}); }

}  // namespace

void register_relu_grad(KernelRegistry& registry) {
    registry.add<ReluGrad>({"relu_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
