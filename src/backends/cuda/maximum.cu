#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct MaximumFunction {
    template <class C>
    __device__ C operator()(C a, C b) const {
        return a > b || b != b ? a : b;
    }
};

Prepared prepare(const NodeView& node) { return prepare_map<2>(node, MaximumFunction{}); }

}  // namespace

void register_maximum(KernelRegistry& registry) {
    registry.add<Maximum>({"maximum", takes_all, prepare});
}

}  // namespace octavo::cuda
