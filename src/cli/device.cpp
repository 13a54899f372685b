#include "cli/device.h"

#include <fmt/core.h>

#include "backends/cpu/cpu.h"
#include "base/parallel.h"
#ifdef OCTAVO_CUDA
#include "backends/cuda/cuda.h"
#endif

namespace octavo {
namespace {

std::unique_ptr<Backend> open_cuda([[maybe_unused]] bool deterministic) {
#ifdef OCTAVO_CUDA
    return make_cuda_backend({.deterministic = deterministic});
#else
    fail(
        "backend cuda: this build has only the CPU\n  Build with: cmake --preset cuda && cmake "
        "--build --preset cuda");
#endif
}

bool has_cuda() {
#ifdef OCTAVO_CUDA
    return !why_no_cuda();
#else
    return false;
#endif
}

}  // namespace

std::unique_ptr<Backend> open_backend(const RunConfig::Runtime& runtime) {
    if (runtime.threads > 0) set_thread_count(static_cast<int>(runtime.threads));
    const bool cuda = runtime.backend == "cuda" || (runtime.backend == "auto" && has_cuda());
    return cuda ? open_cuda(runtime.deterministic) : make_cpu_backend();
}

std::vector<std::pair<std::string, std::string>> gpu_facts() {
#ifdef OCTAVO_CUDA
    if (const auto why_not = why_no_cuda()) return {{"GPU", "none: " + *why_not}};
    return cuda_facts();
#else
    return {{"GPU", "none: this build has only the CPU (cmake --preset cuda)"}};
#endif
}

std::optional<double> measure_gpu_copy_rate() {
#ifdef OCTAVO_CUDA
    if (has_cuda()) return measure_cuda_copy_rate();
#endif
    return std::nullopt;
}

}  // namespace octavo
