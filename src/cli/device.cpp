#include "cli/device.h"

#include "backends/cpu/cpu.h"
#include "base/parallel.h"

namespace octavo {

std::unique_ptr<Backend> open_backend(const RunConfig::Runtime& runtime) {
    if (runtime.threads > 0) set_thread_count(static_cast<int>(runtime.threads));
    return make_cpu_backend();  // the only one in this build; the schema lets no other name through
}

std::int64_t memory_limit(const RunConfig::Runtime& runtime, const Backend& backend) {
    return runtime.memory_limit_gb > 0 ? static_cast<std::int64_t>(runtime.memory_limit_gb * 1e9)
                                       : backend.available_bytes();
}

}  // namespace octavo
