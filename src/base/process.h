// What the system says about this process and the machine under it.
#pragma once

#include <cstdint>

namespace octavo {

std::int64_t resident_bytes();       // now
std::int64_t peak_resident_bytes();  // since the process started
double unix_time_s();

struct MachineMemory {
    std::int64_t total, available;  // bytes
};

// Throws Error if the system does not tell.
MachineMemory machine_memory();

}  // namespace octavo
