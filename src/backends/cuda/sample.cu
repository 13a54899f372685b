#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

void register_sample(KernelRegistry&) {}

}  // namespace octavo::cuda
