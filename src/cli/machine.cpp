#include "cli/machine.h"

#include <fstream>

#include "base/error.h"

namespace octavo {
namespace {

// The text after `label` on its first line in a /proc file, without blanks around it.
std::string field(const char* file, const std::string& label) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with(label)) {
            const auto colon = line.find(':');
            const auto begin = line.find_first_not_of(" \t", colon + 1);
            return begin == std::string::npos ? "" : line.substr(begin);
        }
    }
    return {};
}

double kilobytes(const std::string& label) {
    const std::string text = field("/proc/meminfo", label);
    check(!text.empty(), "/proc/meminfo: expected a line '{}', got none", label);
    return std::stod(text) * 1024;
}

}  // namespace

std::string processor_name() {
    const std::string name = field("/proc/cpuinfo", "model name");
    return name.empty() ? "unknown" : name;
}

std::vector<ProcessorFeature> processor_features() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return {
        {"AVX2", __builtin_cpu_supports("avx2") != 0, "slow: loops handle four numbers at a time"},
        {"AVX-512", __builtin_cpu_supports("avx512bw") != 0, "loops handle 8 numbers at a time"},
        {"AVX512_BF16", __builtin_cpu_supports("avx512bf16") != 0,
         "bf16 products are computed in f32"},
        {"AMX", __builtin_cpu_supports("amx-bf16") != 0,
         "bf16 products run on the vector units, several times slower"},
    };
#else
    return {};
#endif
}

MachineMemory machine_memory() { return {kilobytes("MemTotal"), kilobytes("MemAvailable")}; }

}  // namespace octavo
