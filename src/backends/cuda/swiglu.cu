#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct SwiGluFunction {
    template <class C>
    __device__ C operator()(C gate, C up) const {
        return gate * sigmoid(gate) * up;
    }
};

}  // namespace

void register_swiglu(KernelRegistry& registry) {
    registry.add<SwiGlu>({"swiglu", takes_all, prepare_map<SwiGluFunction, 2>});
}

}  // namespace octavo::cuda
