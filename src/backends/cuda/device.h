// The GPU that this process computes on: its stream, its library handles, and what a call to any of
// them may answer.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace octavo::cuda {

// Throws Error with CUDA's or cuBLAS's own words unless the call succeeded. If the GPU has failed
// at earlier work, that is a DeviceFault which names the steps of the plan it can have been at.
void expect(cudaError_t status, std::string_view call);
void expect(cublasStatus_t status, std::string_view call);
// For libraries that answer such a fault with words of their own.
void expect_no_fault();

// Everything Octavo launches goes to one stream, in the order of the plan.
class Device {
  public:
    Device();
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    cudaStream_t stream() const { return stream_; }
    cublasLtHandle_t blas() const { return blas_; }
    int multiprocessors() const { return multiprocessors_; }
    const std::string& name() const { return name_; }
    // Whether kernels must give the same bits in every run.
    bool deterministic() const { return deterministic_; }
    void set_deterministic(bool value) { deterministic_ = value; }

  private:
    cudaStream_t stream_ = nullptr;
    cublasLtHandle_t blas_ = nullptr;
    int multiprocessors_ = 0;
    std::string name_;
    bool deterministic_ = false;
};

// Made at first use, for the life of the process.
Device& device();
inline cudaStream_t stream() { return device().stream(); }

// Within the GPU's memory; nothing happens where source and target are the same.
void copy(const void* from, void* to, std::int64_t bytes);
void clear(void* data, std::int64_t bytes);

// After a launch: throws if the configuration was refused.
inline void launched(std::string_view kernel) { expect(cudaGetLastError(), kernel); }

}  // namespace octavo::cuda
