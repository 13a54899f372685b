#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct AddFunction {
    template <class C>
    __device__ C operator()(C a, C b) const {
        return a + b;
    }
};

}  // namespace

void register_add(KernelRegistry& registry) {
    registry.add<Add>({"add", takes_all, prepare_map<AddFunction, 2>});
}

}  // namespace octavo::cuda
