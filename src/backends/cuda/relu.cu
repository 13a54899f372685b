#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct ReluFunction {
    template <class C>
    __device__ C operator()(C x) const {
        return x < C(0) ? C(0) : x;
    }
};

Prepared prepare(const NodeView& node) { return prepare_map<1>(node, ReluFunction{}); }

}  // namespace

void register_relu(KernelRegistry& registry) { registry.add<Relu>({"relu", takes_all, prepare}); }

}  // namespace octavo::cuda
