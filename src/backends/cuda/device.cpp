#include "backends/cuda/device.h"

#include "base/error.h"

namespace octavo::cuda {

void expect(cudaError_t status, std::string_view call) {
    if (status == cudaSuccess) return;
    fail("CUDA: {} failed: {} ({})", call, cudaGetErrorString(status), cudaGetErrorName(status));
}

void expect(cublasStatus_t status, std::string_view call) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    fail("cuBLAS: {} failed: {}", call, cublasLtGetStatusString(status));
}

Device::Device() {
    expect(cudaSetDevice(0), "cudaSetDevice");
    cudaDeviceProp properties;
    expect(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    multiprocessors_ = properties.multiProcessorCount;
    name_ = properties.name;
    expect(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    expect(cublasLtCreate(&blas_), "cublasLtCreate");
}

Device::~Device() {
    // The driver may be gone already when the process ends: nothing to report then.
    cublasLtDestroy(blas_);
    cudaStreamDestroy(stream_);
}

Device& device() {
    static Device device;
    return device;
}

void copy(const void* from, void* to, std::int64_t bytes) {
    if (from == to || bytes == 0) return;
    expect(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                           stream()),
           "cudaMemcpyAsync");
}

void clear(void* data, std::int64_t bytes) {
    if (bytes == 0) return;
    expect(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), stream()), "cudaMemsetAsync");
}

}  // namespace octavo::cuda
