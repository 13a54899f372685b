// Folders of models that nobody has trained.
#pragma once

#include "base/file.h"
#include "io/safetensors.h"
#include "models/model.h"

namespace octavo::test {

// A folder of random weights in f32, with a row of zeros and an outlier in each.
inline void write_random_model(const std::filesystem::path& folder, const Architecture& arch) {
    std::filesystem::create_directories(folder);
    std::vector<std::vector<float>> values;
    std::vector<TensorInfo> tensors;
    for (const Parameter& p : parameters(arch)) {
        std::vector<float>& x = values.emplace_back(initial_values(p, 3));
        const auto last = static_cast<std::size_t>(p.shape.last());
        if (p.shape.rank() == 2) {
            std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(last), last, 0.0f);
            x[5 * last + 7] = 3.0f;
        }
        tensors.push_back({p.name, Dtype::f32, p.shape, {}});
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        tensors[i].bytes = std::as_bytes(std::span<const float>(values[i]));
    }
    write_safetensors(folder / "model.safetensors", tensors);
    write_file_atomically(folder / "config.json", to_hf_config(arch, "float32"));
    write_file_atomically(folder / "tokenizer.json", "{}");
    write_file_atomically(folder / "pytorch_model.bin", "pickled");
}

}  // namespace octavo::test
