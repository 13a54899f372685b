// What verbs that compute share: the backend, threads and memory limit that a config asks for.
#pragma once

#include <cstdint>
#include <memory>

#include "config/run_config.h"
#include "runtime/backend.h"

namespace octavo {

std::unique_ptr<Backend> open_backend(const RunConfig::Runtime&);
std::int64_t memory_limit(const RunConfig::Runtime&, const Backend&);

}  // namespace octavo
