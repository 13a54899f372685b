// What verbs that compute share: the backend and threads that a config asks for.
#pragma once

#include <memory>

#include "config/run_config.h"
#include "runtime/backend.h"

namespace octavo {

std::unique_ptr<Backend> open_backend(const RunConfig::Runtime&);

}  // namespace octavo
