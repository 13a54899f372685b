// What a refused call to CUDA is reported as; no GPU is needed for that.
#include "backends/cuda/device.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace octavo::cuda {
namespace {

std::string report(cudaError_t status) {
    try {
        expect(status, "a call");
    } catch (const Error& e) {
        return e.what();
    }
    return "nothing";
}

TEST(Device, SaysWhatToDoAboutRefusedCalls) {
    EXPECT_EQ(report(cudaSuccess), "nothing");
    EXPECT_EQ(report(cudaErrorMemoryAllocation),
              "CUDA: a call failed: out of memory (cudaErrorMemoryAllocation)\n"
              "  Lower train.batch or train.seq, or see nvidia-smi for other processes on this "
              "GPU.");
    EXPECT_EQ(report(cudaErrorDevicesUnavailable),
              "CUDA: a call failed: CUDA-capable device(s) is/are busy or unavailable "
              "(cudaErrorDevicesUnavailable)\n"
              "  Another process may have the GPU to itself: see nvidia-smi.");
    EXPECT_EQ(report(cudaErrorNoKernelImageForDevice),
              "CUDA: a call failed: no kernel image is available for execution on the device "
              "(cudaErrorNoKernelImageForDevice)\n"
              "  Octavo's kernels are for compute capability 9.0 (Hopper).");
    EXPECT_EQ(report(cudaErrorInvalidValue),
              "CUDA: a call failed: invalid argument (cudaErrorInvalidValue)");
}

}  // namespace
}  // namespace octavo::cuda
