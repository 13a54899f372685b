// Whether Octavo can use a GPU, and whose its memory is: decided from what CUDA says, which is
// asked elsewhere (cuda.cpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace octavo::cuda {

struct GpuFacts {
    int driver = 0;   // the CUDA version the driver knows, as 13000; 0: there is no driver
    int runtime = 0;  // that of this build
    int devices = 0;
    std::string error = {};                   // CUDA's words where it could not count or ask them
    std::optional<std::string> visible = {};  // CUDA_VISIBLE_DEVICES
    std::string name = {};                    // of the first device, as all that follows
    int major = 0, minor = 0;                 // compute capability
    bool prohibited = false;                  // its compute mode lets nobody in
};

struct GpuRefusal {
    std::string reason, remedy;
};

// nullopt: it can be used.
std::optional<GpuRefusal> why_not(const GpuFacts&);

// Bytes; `own` is what this process has allocated itself.
struct GpuMemory {
    std::int64_t free = 0, total = 0, own = 0;
};

// What other processes hold, as a clause that follows a number of free bytes; empty if it is no
// more than this process's own context may take.
std::string memory_note(const GpuMemory&);

// What to say when so many bytes were asked for in vain.
std::string no_memory_text(const GpuMemory&, std::int64_t wanted);

// 13000 is "13.0".
std::string cuda_version_text(int version);

}  // namespace octavo::cuda
