// What the driver's management library (NVML) says of the GPU in use. It comes with the driver, so
// that no build links it, and a container may lack it: then nothing is known.
#pragma once

#include <optional>
#include <string>

namespace octavo::cuda {

class Nvml {
  public:
    Nvml();
    std::optional<std::string> driver() const;  // "580.82.07"
    std::optional<double> sm_mhz() const;       // the multiprocessors' clock now
    std::optional<double> watts() const;        // over the last second

  private:
    using Device = struct NvmlDevice*;
    // Result 0: done.
    int (*driver_version_)(char* text, unsigned length) = nullptr;
    int (*clock_)(Device, unsigned which, unsigned* mhz) = nullptr;
    int (*power_)(Device, unsigned* milliwatts) = nullptr;
    Device device_ = nullptr;
};

const Nvml& nvml();

// From NVML, or else from the kernel module.
std::optional<std::string> driver_version();

}  // namespace octavo::cuda
