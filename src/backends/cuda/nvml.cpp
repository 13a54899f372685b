#include "backends/cuda/nvml.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <cstdio>
#include <fstream>

namespace octavo::cuda {
namespace {

constexpr unsigned kSmClock = 1;  // NVML_CLOCK_SM

template <class F>
void find(void* library, const char* name, F*& function) {
    function = reinterpret_cast<F*>(dlsym(library, name));
}

}  // namespace

Nvml::Nvml() {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);  // stays open
    if (!library) return;
    int (*init)() = nullptr;
    int (*by_bus)(const char*, Device*) = nullptr;
    find(library, "nvmlInit_v2", init);
    find(library, "nvmlDeviceGetHandleByPciBusId_v2", by_bus);
    if (!init || !by_bus || init() != 0) return;
    find(library, "nvmlSystemGetDriverVersion", driver_version_);
    find(library, "nvmlDeviceGetClockInfo", clock_);
    find(library, "nvmlDeviceGetPowerUsage", power_);
    // CUDA_VISIBLE_DEVICES renumbers CUDA's devices, and not NVML's.
    char bus[32] = {};
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, 0) != cudaSuccess || by_bus(bus, &device_) != 0) {
        device_ = nullptr;
    }
}

std::optional<std::string> Nvml::driver() const {
    char text[80] = {};
    if (!driver_version_ || driver_version_(text, sizeof text) != 0) return std::nullopt;
    return text;
}

std::optional<double> Nvml::sm_mhz() const {
    unsigned mhz = 0;
    if (!device_ || !clock_ || clock_(device_, kSmClock, &mhz) != 0) return std::nullopt;
    return mhz;
}

std::optional<double> Nvml::watts() const {
    unsigned milliwatts = 0;
    if (!device_ || !power_ || power_(device_, &milliwatts) != 0) return std::nullopt;
    return milliwatts * 1e-3;
}

const Nvml& nvml() {
    static const Nvml instance;
    return instance;
}

// NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (...)
std::optional<std::string> driver_version() {
    if (const auto version = nvml().driver()) return version;
    std::ifstream module("/proc/driver/nvidia/version");
    for (std::string word; module >> word;) {
        int major = 0, minor = 0;
        if (std::sscanf(word.c_str(), "%d.%d", &major, &minor) == 2) return word;
    }
    return std::nullopt;
}

}  // namespace octavo::cuda
