// GPT-2 checkpoints of llm.c (github.com/karpathy/llm.c, train_gpt2.cu, gpt2_write_to_checkpoint):
//     256 x i32: 20240326, version (3: f32, 5: bf16), positions, vocabulary, layers, heads, width,
//                padded vocabulary
//     wte, wpe, and then, each for all layers: ln_1 (weight, bias), qkv (weight, bias), attention's
//     projection, ln_2, the feed-forward block's two products; ln_f. Linear weights are (out, in).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "graph/type.h"
#include "models/architecture.h"

namespace octavo {

class LlmcCheckpoint {
  public:
    struct Tensor {
        std::string name;  // as Hugging Face has it
        Shape shape;       // likewise: linear weights are (in, out)
        bool transposed = false;
        std::size_t at = 0;  // bytes into the file
    };

    // Whether the file begins as such a checkpoint does.
    static bool is_one(const std::filesystem::path& file);
    explicit LlmcCheckpoint(const std::filesystem::path& file);

    const Architecture& architecture() const { return architecture_; }
    const std::vector<Tensor>& tensors() const { return tensors_; }
    void read(const Tensor&, std::span<float> values) const;

  private:
    MappedFile file_;
    Dtype dtype_ = Dtype::f32;
    Architecture architecture_;
    std::vector<Tensor> tensors_;
};

}  // namespace octavo
