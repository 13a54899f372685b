#include "cli/device.h"

#include <fmt/core.h>

#include "backends/cpu/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#ifdef OCTAVO_CUDA
#include "backends/cuda/cuda.h"
#endif

namespace octavo {
namespace {

[[noreturn, maybe_unused]] void fail_without_cuda() {
    fail(
        "backend cuda: this build has only the CPU\n  Build with: cmake --preset cuda && cmake "
        "--build --preset cuda");
}

std::unique_ptr<Backend> open_cuda([[maybe_unused]] const RunConfig::Runtime& runtime) {
#ifdef OCTAVO_CUDA
    return make_cuda_backend({.deterministic = runtime.deterministic, .trace = runtime.trace});
#else
    fail_without_cuda();
#endif
}

// Who asked for no backend and gets the slower one hears why; a build without CUDA has no other.
bool choose_cuda() {
#ifdef OCTAVO_CUDA
    const auto why_not = why_no_cuda();
    if (why_not) fmt::print(stderr, "octavo: computing on the CPU: {}\n", *why_not);
    return !why_not;
#else
    return false;
#endif
}

}  // namespace

std::unique_ptr<Backend> open_backend(const RunConfig::Runtime& runtime) {
    if (runtime.threads > 0) set_thread_count(static_cast<int>(runtime.threads));
    const bool cuda = runtime.backend == "cuda" || (runtime.backend == "auto" && choose_cuda());
    return cuda ? open_cuda(runtime) : make_cpu_backend();
}

std::vector<std::pair<std::string, std::string>> gpu_facts() {
#ifdef OCTAVO_CUDA
    if (const auto why_not = why_no_cuda()) return {{"GPU", "none: " + *why_not}};
    return cuda_facts();
#else
    return {{"GPU", "none: this build has only the CPU (cmake --preset cuda)"}};
#endif
}

std::vector<std::pair<std::string, double>> gpu_load() {
#ifdef OCTAVO_CUDA
    return cuda_load();
#else
    return {};
#endif
}

std::vector<std::pair<std::string, double>> measure_gpu_grouped_products(
    [[maybe_unused]] std::int64_t experts, [[maybe_unused]] std::int64_t rows,
    [[maybe_unused]] std::int64_t n, [[maybe_unused]] std::int64_t k,
    [[maybe_unused]] double seconds) {
#ifdef OCTAVO_CUDA
    std::vector<std::pair<std::string, double>> rates;
    for (const GroupedRate& r : measure_grouped_products(experts, rows, n, k, seconds)) {
        rates.emplace_back(r.product, r.flops_per_s);
    }
    return rates;
#else
    fail_without_cuda();
#endif
}

}  // namespace octavo
