// What a run leaves behind when its loss, gradient norm or an amax is no longer finite.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "train/train_program.h"

namespace octavo {

struct Failure {
    std::string what;  // "loss" or "gradient norm or an amax"
    double value = 0;
    std::int64_t step = 0;
    std::optional<NonFinite> first;
};

// Writes failure.json and batch.safetensors (input_ids and targets, (batch, seq) i32).
void write_failure(const std::filesystem::path& folder, const Failure&,
                   std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                   std::int64_t batch);

}  // namespace octavo
