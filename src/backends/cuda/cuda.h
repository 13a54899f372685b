// The backend for NVIDIA Hopper GPUs (compute capability 9.0). Nothing outside this folder knows
// CUDA; a build without it has no such folder in it (CMake option OCTAVO_CUDA).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/backend.h"

namespace octavo {

// Why this process cannot use a GPU: no driver, one that is too old, no device, another
// architecture. nullopt: it can.
std::optional<std::string> why_no_cuda();

struct CudaOptions {
    bool deterministic = false;  // the same bits in every run, for a slower attention backward
    bool trace = false;  // a fault names one step of the plan, at the price of more launches
};

// On the first visible GPU; a process has one at a time. Error, with the reason, where there is
// none.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& = {});

// Name, memory, driver and library versions of the GPU in use, as rows of a report.
std::vector<std::pair<std::string, std::string>> cuda_facts();

// The GPU's clock ("sm_mhz") and power ("watts", over the last second) as they are now, as far as
// the driver tells them.
std::vector<std::pair<std::string, double>> cuda_load();

// A Linear layer (n, k) of a mixture of experts: rates of its three products, in each format that
// the own kernel for them has (grouped_gemm.h). The experts share the rows about equally.
struct GroupedRate {
    std::string product;
    double flops_per_s = 0;
};
std::vector<GroupedRate> measure_grouped_products(std::int64_t experts, std::int64_t rows,
                                                  std::int64_t n, std::int64_t k, double seconds);

}  // namespace octavo
