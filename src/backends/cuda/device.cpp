#include "backends/cuda/device.h"

#include "backends/cuda/breadcrumbs.h"
#include "base/error.h"

namespace octavo::cuda {
namespace {

bool g_faulted = false;

// Errors after which CUDA answers every call with the same words: the call is not to blame.
bool is_fault(cudaError_t status) {
    switch (status) {
        case cudaErrorECCUncorrectable:
        case cudaErrorNvlinkUncorrectable:
        case cudaErrorContained:
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchTimeout:
        case cudaErrorContextIsDestroyed:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorLaunchFailure:
        case cudaErrorTensorMemoryLeak:
        case cudaErrorExternalDevice:
        case cudaErrorUnknown:
            return true;
        default:
            return false;
    }
}

std::string_view remedy(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation:
            return "\n  Lower train.batch or train.seq, or see nvidia-smi for other processes on "
                   "this GPU.";
        case cudaErrorDevicesUnavailable:
            return "\n  Another process may have the GPU to itself: see nvidia-smi.";
        case cudaErrorNoKernelImageForDevice:
            return "\n  Octavo's kernels are for compute capability 9.0 (Hopper).";
        default:
            return "";
    }
}

// cuBLASLt takes what little it needs for itself from the GPU, too.
std::string_view remedy(cublasStatus_t status) {
    return status == CUBLAS_STATUS_ALLOC_FAILED || status == CUBLAS_STATUS_NOT_INITIALIZED
               ? remedy(cudaErrorMemoryAllocation)
               : "";
}

}  // namespace

bool faulted() { return g_faulted; }

void expect(cudaError_t status, std::string_view call) {
    if (status == cudaSuccess) return;
    const std::string words =
        fmt::format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
    if (is_fault(status)) {
        g_faulted = true;
        std::string text = fault_text(words, last_stretch());
        if (status == cudaErrorECCUncorrectable) {
            text += "\n  The GPU's memory is faulty, not the run: see nvidia-smi -q -d ECC.";
        }
        throw DeviceFault(text);
    }
    fail("CUDA: {} failed: {}{}", call, words, remedy(status));
}

void expect_no_fault() {
    const cudaError_t status = cudaStreamQuery(stream());
    cudaGetLastError();
    if (is_fault(status)) expect(status, "");
}

void expect(cublasStatus_t status, std::string_view call) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    expect_no_fault();
    fail("cuBLAS: {} failed: {}{}", call, cublasLtGetStatusString(status), remedy(status));
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
    if (faulted()) return;
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
