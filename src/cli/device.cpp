#include "cli/device.h"

#include "backends/cpu/cpu.h"
#include "base/parallel.h"

namespace octavo {

std::unique_ptr<Backend> open_backend(const RunConfig::Runtime& runtime) {
    if (runtime.threads > 0) set_thread_count(static_cast<int>(runtime.threads));
    return make_cpu_backend();  // the only one in this build; the schema lets no other name through
}

}  // namespace octavo
