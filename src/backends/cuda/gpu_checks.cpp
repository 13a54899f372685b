#include "backends/cuda/gpu_checks.h"

#include <fmt/format.h>

namespace octavo::cuda {
namespace {

// The first Linux driver of CUDA's major version.
std::string driver_for(int runtime) {
    return runtime / 1000 == 13 ? "580" : fmt::format("for CUDA {}", cuda_version_text(runtime));
}

std::string visibility(const GpuFacts& facts) {
    return facts.visible ? fmt::format(", CUDA_VISIBLE_DEVICES is '{}'", *facts.visible) : "";
}

}  // namespace

std::string cuda_version_text(int version) {
    return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::optional<GpuRefusal> why_not(const GpuFacts& f) {
    if (f.driver == 0) {
        return GpuRefusal{"there is no NVIDIA driver",
                          fmt::format("Install driver {} or newer", driver_for(f.runtime))};
    }
    // Within a major version an older driver runs what a newer toolkit built.
    if (f.driver / 1000 < f.runtime / 1000) {
        return GpuRefusal{fmt::format("the NVIDIA driver knows CUDA {}, this build needs {}",
                                      cuda_version_text(f.driver), cuda_version_text(f.runtime)),
                          fmt::format("Install driver {} or newer", driver_for(f.runtime))};
    }
    if (f.devices == 0) {
        return GpuRefusal{fmt::format("no GPU is visible ({}){}",
                                      f.error.empty() ? "none is there" : f.error, visibility(f)),
                          "See nvidia-smi, and what a container passes on"};
    }
    if (!f.error.empty()) {
        return GpuRefusal{fmt::format("the GPU does not answer ({})", f.error),
                          "See nvidia-smi and the kernel's log"};
    }
    if (f.major != 9 || f.minor != 0) {
        return GpuRefusal{
            fmt::format("{} has compute capability {}.{}, Octavo's kernels are for 9.0 (Hopper)",
                        f.name, f.major, f.minor),
            f.devices > 1 ? "Choose another of the GPUs with CUDA_VISIBLE_DEVICES"
                          : "Run on an H100 or H200"};
    }
    if (f.prohibited) {
        return GpuRefusal{fmt::format("{} is in compute mode 'prohibited'", f.name),
                          "An administrator can change that: nvidia-smi -c 0"};
    }
    return std::nullopt;
}

std::string memory_note(const GpuMemory& m) {
    // A context with cuBLASLt, cuDNN and the code of kernels takes up to about this.
    constexpr std::int64_t kOwnContext = std::int64_t{3} << 29;
    const std::int64_t taken = m.total - m.free - m.own;
    if (taken <= kOwnContext) return "";
    return fmt::format(
        "; about {:.1f} GB of the GPU's {:.1f} GB are taken by others: a second process may be "
        "running on it (see nvidia-smi)",
        static_cast<double>(taken) * 1e-9, static_cast<double>(m.total) * 1e-9);
}

std::string no_memory_text(const GpuMemory& m, std::int64_t wanted) {
    return fmt::format(
        "the GPU has {:.2f} GB left, and {:.2f} GB were asked for{}\n"
        "  Lower train.batch or train.seq, or end other processes that use this GPU.",
        static_cast<double>(m.free) * 1e-9, static_cast<double>(wanted) * 1e-9, memory_note(m));
}

}  // namespace octavo::cuda
