// The CPU backend. It defines what every op means: other backends are tested against it.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace octavo {

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace octavo
