#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

struct SiluFunction {
    template <class C>
    __device__ C operator()(C x) const {
        return x * sigmoid(x);
    }
};

}  // namespace

void register_silu(KernelRegistry& registry) {
    registry.add<Silu>({"silu", takes_all, prepare_map<SiluFunction, 1>});
}

}  // namespace octavo::cuda
