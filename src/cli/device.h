// What verbs that compute share: the backend and threads that a config asks for.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/run_config.h"
#include "runtime/backend.h"

namespace octavo {

// "auto" is a GPU where the build has CUDA and the machine a Hopper, else the CPU, with a line on
// stderr that says why.
std::unique_ptr<Backend> open_backend(const RunConfig::Runtime&);

// The GPU, or why none is used, as rows of a report.
std::vector<std::pair<std::string, std::string>> gpu_facts();
// The GPU's clock and power now, by name; nothing where no driver tells them.
std::vector<std::pair<std::string, double>> gpu_load();
// FLOP/s of the products of a layer (n, k) of experts, by name; Error without a GPU.
std::vector<std::pair<std::string, double>> measure_gpu_grouped_products(
    std::int64_t experts, std::int64_t rows, std::int64_t n, std::int64_t k, double seconds);

}  // namespace octavo
