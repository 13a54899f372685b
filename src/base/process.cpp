#include "base/process.h"

#include <chrono>
#include <fstream>
#include <string>
#include <string_view>

namespace octavo {
namespace {

std::int64_t status_kib(std::string_view wanted) {
    std::ifstream status("/proc/self/status");
    std::string line;
    while (std::getline(status, line)) {
        if (line.starts_with(wanted)) return std::stoll(line.substr(wanted.size()));
    }
    return 0;
}

}  // namespace

std::int64_t resident_bytes() { return status_kib("VmRSS:") * 1024; }
std::int64_t peak_resident_bytes() { return status_kib("VmHWM:") * 1024; }

double unix_time_s() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace octavo
