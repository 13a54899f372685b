// Folders of models that nobody has trained.
#pragma once

#include <functional>

#include "base/file.h"
#include "io/safetensors.h"
#include "models/experts.h"
#include "models/model.h"

namespace octavo::test {

// A folder of random weights in f32, with a row of zeros and an outlier in each; `edit` may change
// them further.
inline void write_random_model(
    const std::filesystem::path& folder, const Architecture& arch,
    const std::function<void(const std::string&, const Shape&, std::span<float>)>& edit = {}) {
    std::filesystem::create_directories(folder);
    std::vector<std::vector<float>> values;
    std::vector<TensorInfo> tensors;
    for (const Parameter& p : parameters(arch)) {
        std::span<float> left = values.emplace_back(initial_values(p, 3));
        for (const StoredParameter& s : stored_parameters(p.name, p.shape)) {
            const auto x = left.first(static_cast<std::size_t>(s.shape.elements()));
            left = left.subspan(x.size());
            const auto last = static_cast<std::size_t>(s.shape.last());
            if (s.shape.rank() == 2) {
                std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(last), last, 0.0f);
                x[5 * last + 7] = 3.0f;
            }
            if (edit) edit(s.name, s.shape, x);
            tensors.push_back({s.name, Dtype::f32, s.shape, std::as_bytes(std::span(x))});
        }
    }
    write_safetensors(folder / "model.safetensors", tensors);
    write_file_atomically(folder / "config.json", to_hf_config(arch, "float32"));
    write_file_atomically(folder / "tokenizer.json", "{}");
    write_file_atomically(folder / "pytorch_model.bin", "pickled");
}

}  // namespace octavo::test
