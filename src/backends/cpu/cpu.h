// The CPU backend. It defines what every op means: other backends are tested against it.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace octavo {

struct CpuOptions {
    // Products by the loops that define them: many times slower, and what a row gives does not
    // depend on how many others there are.
    bool reference = false;
};
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& = {});

}  // namespace octavo
