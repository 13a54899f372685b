#include "train/failure.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "io/safetensors.h"

namespace octavo {

void write_failure(const std::filesystem::path& folder, const Failure& failure,
                   std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                   std::int64_t batch) {
    std::filesystem::create_directories(folder);
    nlohmann::ordered_json j = {{"step", failure.step},
                                {"what", failure.what},
                                {"value", fmt::format("{}", failure.value)}};
    if (failure.first) {
        j["tensor"] = failure.first->tensor;
        j["op"] = failure.first->op;
        j["elements"] = failure.first->count;
    }
    const Shape shape{batch, std::ssize(ids) / batch};
    const TensorInfo tensors[] = {{"input_ids", Dtype::i32, shape, std::as_bytes(ids)},
                                  {"targets", Dtype::i32, shape, std::as_bytes(targets)}};
    write_safetensors(folder / "batch.safetensors", tensors);
    write_file_atomically(folder / "failure.json", j.dump(2) + "\n");
}

}  // namespace octavo
