#include "cli/machine.h"

#include <fstream>

namespace octavo {

std::string processor_name() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);) {
        if (!line.starts_with("model name")) continue;
        const auto begin = line.find_first_not_of(" \t", line.find(':') + 1);
        if (begin != std::string::npos) return line.substr(begin);
    }
    return "unknown";
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

}  // namespace octavo
