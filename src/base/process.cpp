#include "base/process.h"

#include <chrono>
#include <fstream>
#include <string>
#include <string_view>

#include "base/error.h"

namespace octavo {
namespace {

// Of a line such as "MemTotal:   16384 kB" in a /proc file.
std::int64_t bytes_in(const char* file, std::string_view label) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with(label)) return std::stoll(line.substr(label.size())) * 1024;
    }
    fail("{}: expected a line '{}', got none", file, label);
}

}  // namespace

std::int64_t resident_bytes() { return bytes_in("/proc/self/status", "VmRSS:"); }
std::int64_t peak_resident_bytes() { return bytes_in("/proc/self/status", "VmHWM:"); }

MachineMemory machine_memory() {
    return {bytes_in("/proc/meminfo", "MemTotal:"), bytes_in("/proc/meminfo", "MemAvailable:")};
}

double unix_time_s() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace octavo
